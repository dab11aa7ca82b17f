"""What tools used, as quantities to be priced beside the tokens: what `tools` and `image_tokens` hand to `cost`."""

from dataclasses import dataclass
from typing import NamedTuple

from ledger.money.usage import Meter


class Billable(NamedTuple):
    """So many units of a tool's meter.

    `model` names whose price they have where it is not the call's own model. `doubt` is "" for a quantity that is
    certain; otherwise it is estimated, and this is why.
    """

    meter: Meter
    quantity: int
    model: str = ""
    doubt: str = ""


@dataclass(frozen=True, slots=True)
class ToolUse:
    """What can be priced, and in `unpriced` a sentence for each thing that may cost something nobody can count."""

    billables: tuple[Billable, ...] = ()
    unpriced: tuple[str, ...] = ()

    def __add__(self, other: "ToolUse") -> "ToolUse":
        """Both uses together."""
        if not other.billables and not other.unpriced:
            return self
        return ToolUse((*self.billables, *other.billables), (*self.unpriced, *other.unpriced))


NO_TOOLS = ToolUse()
