"""HTTP for monitoring: /metrics, in Prometheus' text format, of all workers of this proxy, whichever is asked.

What is told is in `api/metrics/`; docs/OPERATING.md lists the names.
"""

from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Response

from api.context import Context, context, metrics_reader
from api.metrics.exposition import CONTENT_TYPE, exposition
from api.routes.paths import read_by_get

router = APIRouter(tags=["metrics"])


_TEXT: Final[dict[int | str, dict[str, Any]]] = {
    200: {"description": "The text format, version 0.0.4.", "content": {"text/plain": {"schema": {"type": "string"}}}}
}


@read_by_get(router, "/metrics", response_class=Response, responses=_TEXT)
async def metrics(
    running: Annotated[Context, Depends(context)],
    # A parameter rather than an option of the route, since HEAD takes none of these.
    _allowed: Annotated[None, Depends(metrics_reader)],
) -> Response:
    """Tell how the proxy fares, in Prometheus' text format."""
    instruments = running.instruments
    lags = await instruments.lag.lags()
    running.vitals.publish()
    text = exposition(instruments.cells.layout, instruments.cells.readings(), lags)
    return Response(text, media_type=CONTENT_TYPE)
