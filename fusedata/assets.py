"""Where the data that ships with fusedata lies, in a checkout and in a wheel alike."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def asset(*parts: str) -> Path:
    """Path of a shipped file or folder, for example `asset("recipes", "math.toml")`.

    A wheel carries recipes/, sandbox/ and cards/ under `fusedata/_assets/`; a checkout has them beside the package.
    The path need not exist.
    """
    shipped = _PACKAGE / "_assets"
    return (shipped if shipped.is_dir() else _PACKAGE.parent).joinpath(*parts)
