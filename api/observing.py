"""Who is told of calls: the counters behind /metrics, and the access log where there is one.

Told once a call, on the hot route. `api/metrics/` counts, `access_log.py` writes lines.
"""

from api.access_log import AccessLog
from api.metrics.meter import Meter
from llm.outcome import Outcome


class CallObserver:
    """Passes on what it is told. Implements `llm.outcome.Observer`."""

    def __init__(self, meter: Meter, access_log: AccessLog | None) -> None:
        self._meter = meter
        self._access_log = access_log
        self.charged = meter.charged
        self.refused = meter.refused

    def ended(self, outcome: Outcome) -> None:
        """Take note of a call's end."""
        self._meter.ended(outcome)
        if self._access_log is not None:
            self._access_log.ended(outcome)

    def close(self) -> None:
        """Write what is left."""
        if self._access_log is not None:
            self._access_log.flush()
