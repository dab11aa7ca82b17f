"""What a process measures itself with, put together once, when it starts."""

from dataclasses import dataclass
from pathlib import Path

from api.config import Config
from api.metrics.cells import Cells
from api.metrics.lag_probe import LagProbe
from api.metrics.layout import Layout
from api.metrics.meter import Meter


@dataclass(frozen=True, slots=True)
class Instruments:
    """A worker's cells, what counts into them, and what asks the database."""

    cells: Cells
    meter: Meter
    lag: LagProbe

    def close(self) -> None:
        """Give the worker's place and the connection back."""
        self.lag.close()
        self.cells.close()


def make_instruments(config: Config, database_url: str, directory: Path | None = None) -> Instruments:
    """Return the instruments of a process; workers of one proxy share `directory`, a process alone needs none.

    Raises:
        MetricsFileError, OSError: there is no place in `directory`.
    """
    cells = Cells(Layout(entry.model_name for entry in config.model_list), directory)
    return Instruments(cells, Meter(cells), LagProbe(database_url))
