"""What stands behind an exception of a hub's client: the ones that caused it, and the HTTP status."""

from collections.abc import Iterator


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """Give an exception and those behind it, each once."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def status_of(error: BaseException) -> int:
    """Give the HTTP status that an error of either client carries; 0: none."""
    holder = getattr(error, "response", None)
    code = getattr(holder if holder is not None else error, "status_code", None)
    return code if isinstance(code, int) and code >= 400 else 0  # noqa: PLR2004
