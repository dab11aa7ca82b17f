"""What an attempt sends: the call's request as its deployment is to get it. Spans are exchanged in `request.py`."""

from llm.attempt import Attempt, Call
from llm.headers import to_upstream
from llm.upstream import UpstreamRequest


def outgoing_request(call: Call, attempt: Attempt) -> UpstreamRequest:
    """Return the request of an attempt, with the deployment's model and credentials."""
    request, deployment = call.request, attempt.deployment
    body, coding = request.upstream_body(deployment.upstream_model)
    return UpstreamRequest(
        deployment=deployment,
        method=request.method,
        path=request.path,
        query=request.query,
        headers=to_upstream(
            request.headers, api_key=deployment.api_key, content_encoding=coding, is_stream=request.is_stream
        ),
        body=body,
        is_stream=request.is_stream,
    )
