"""What `fusedata inspect --prompt` draws of where a prompt's rows come from, and of why they are these."""

from typing import TYPE_CHECKING

from fusedata.cli.show import heading, line, table

if TYPE_CHECKING:
    from rich.console import RenderableType

    from fusedata.cli.show import Cell
    from fusedata.lineage import Lineage, Offer


def lineage_parts(found: "Lineage") -> "list[RenderableType]":
    """Draw what each source offered, best first as pairs are chosen, and the exact states of what made it."""
    window = "" if found.window is None else f", gap within [{found.window[0]:g}, {found.window[1]:g}]"
    scored = f"rewards by {found.reward_model}{window}" if found.reward_model else "no rewards"
    parts: list[RenderableType] = [heading("what each source offered", scored)]
    heads = ["source", "responses", "right", "wrong", "highest right", "lowest wrong", "gap", "SFT row", "pair"]
    parts.append(table(heads, [_row(offer) for offer in found.offers], left=(0, 7, 8)))
    parts.append(heading("where it comes from", f"recipe {found.recipe}"))
    stated = f"{found.corpus}, row {found.corpus_row}, licence {found.license or 'not stated'}"
    parts.append(line("  ", stated))
    return [*parts, *(line(f"  {name}: ", (revision, "dim")) for name, revision in found.revisions.items())]


def _row(offer: "Offer") -> "list[Cell]":
    from fusedata.plots import number

    told: list[Cell] = [
        ("yes", "green") if reason is None else (reason, "yellow") for reason in (offer.sft_reason, offer.pair_reason)
    ]
    numbers = (number(value) for value in (offer.high, offer.low, offer.gap))
    return [offer.source, f"{offer.responses:,}", f"{offer.good:,}", f"{offer.bad:,}", *numbers, *told]
