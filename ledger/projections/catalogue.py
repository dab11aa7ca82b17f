"""All projections, in the order in which they are folded: keys first, because a revocation must be quick."""

from collections.abc import Iterable

from ledger.projections.calls import CALLS
from ledger.projections.definition import Projection
from ledger.projections.keys import KEYS
from ledger.projections.line_items import LINE_ITEMS
from ledger.projections.prices import PRICES
from ledger.projections.spend import SPEND

ALL: tuple[Projection, ...] = (KEYS, PRICES, SPEND, CALLS, LINE_ITEMS)


def by_names(names: Iterable[str] | None) -> tuple[Projection, ...]:
    """Return the named projections in folding order; all of them for None.

    Raises:
        ValueError: a name that no projection has.
    """
    if names is None:
        return ALL
    wanted = set(names)
    unknown = wanted - {projection.name for projection in ALL}
    if unknown:
        known = ", ".join(projection.name for projection in ALL)
        raise ValueError(f"No projection is named {', '.join(sorted(unknown))}; there are {known}.")
    return tuple(projection for projection in ALL if projection.name in wanted)
