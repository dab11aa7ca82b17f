"""What a client asks for: its body read once, and the bytes that go upstream, which differ from it by spans only."""

import json
from typing import Any, Final, NamedTuple

from ledger.money.request import RequestFacts, read_request
from llm.encodings import decode
from llm.json_spans import Members, replace_values, scan_object
from llm.json_text import JsonError, read_json

#: Fields of this proxy in a request's body, which no upstream knows.
OWN_FIELDS: Final = frozenset({"fallbacks", "num_retries"})
#: Members that money depends on; only these are read as values.
_MONEY_MEMBERS: Final = ("service_tier", "background", "background_options", "stream", "model", "tools")


class ClientRequest(NamedTuple):
    """A request as the engine needs it: `raw_body` as it came, `body` without content coding."""

    method: str
    path: str
    query: str
    headers: list[tuple[str, str]]
    raw_body: bytes
    body: bytes
    content_encoding: str
    members: Members | None
    model: str
    is_stream: bool
    money: RequestFacts

    def upstream_body(self, upstream_model: str) -> tuple[bytes, str]:
        """Return the bytes to send and their content coding: the client's own, but for the model and our own fields."""
        members = self.members
        if members is None:
            return self.raw_body, self.content_encoding
        own = [name for name in OWN_FIELDS if name in members]
        values = {}
        if self.model and (self.model != upstream_model or len(members.spans("model")) > 1):
            # Of duplicates each is exchanged: an upstream that reads the first must not see another model.
            values["model"] = json.dumps(upstream_model).encode()
        metadata = _without_tags(members.raw("metadata"))
        if metadata is not None:
            values["metadata"] = metadata
        if not own and not values:
            return self.raw_body, self.content_encoding
        return replace_values(self.body, values, own, members), ""

    def member(self, name: str) -> Any:
        """Return a top-level member's value; None where it is absent or there is no JSON body."""
        return None if self.members is None else self.members.get(name)

    def every(self, name: str) -> list[Any]:
        """Return a top-level member's values, of duplicates each, as an upstream might read any of them."""
        if self.members is None:
            return []
        return [read_json(self.body[start:end]) for start, end in self.members.spans(name)]


def read_client_request(
    method: str,
    path: str,
    query: str,
    headers: list[tuple[str, str]],
    raw_body: bytes,
    *,
    limit_bytes: int,
    needs_json: bool,
) -> ClientRequest:
    """Read a request. `needs_json`: the route takes a JSON object; otherwise whatever came is passed on.

    Raises:
        EncodingError: the content coding is unknown, broken, or decodes to more than `limit_bytes`.
        JsonError: a JSON object was needed, and this is none.
    """
    encoding = next((value for name, value in headers if name == "content-encoding"), "")
    body = decode(raw_body, encoding, limit_bytes)
    members: Members | None = None
    values: dict[str, Any] = {}
    if body or needs_json:
        try:
            members = scan_object(body)
            values = {name: members.get(name) for name in _MONEY_MEMBERS if name in members}
        except JsonError:
            if needs_json:
                raise
    model = values.get("model")
    return ClientRequest(
        method=method,
        path=path,
        query=query,
        headers=headers,
        raw_body=raw_body,
        body=body,
        content_encoding=encoding,
        members=members,
        model=model if isinstance(model, str) else "",
        # A stored response is asked for as a stream by its query.
        is_stream=values.get("stream") is True or (method == "GET" and "stream=true" in query.split("&")),
        money=read_request(values),
    )


def _without_tags(metadata: bytes | None) -> bytes | None:
    """Return `metadata` without a list of tags, which is the proxy's: the API takes texts only; None to leave it."""
    if metadata is None or not metadata.startswith(b"{") or (b"tags" not in metadata and b"\\u00" not in metadata):
        return None
    members = scan_object(metadata)
    tags = members.raw("tags")
    return replace_values(metadata, {}, ("tags",), members) if tags is not None and tags.startswith(b"[") else None


def read_mapping(body: bytes) -> dict[str, Any] | None:
    """Return the JSON object that a body is; None when it is something else."""
    try:
        value = read_json(body)
    except JsonError:
        return None
    return value if isinstance(value, dict) else None
