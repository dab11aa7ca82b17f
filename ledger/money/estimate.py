"""Estimates for calls that ended without usage: tokens counted offline, priced, and marked as estimated.

What cannot be counted from the request alone (files, images, state that lies at the upstream, hosted tools) is said to
be so and makes the charge unknown; nothing is guessed. Everything here blocks (`tokens`): use a thread.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple, cast

from ledger.money.book import PriceBook
from ledger.money.cost import Charge, as_estimate, charge, unknown_cost
from ledger.money.price import canonical_tier
from ledger.money.request import RequestFacts, text_of
from ledger.money.tokens import count_tokens
from ledger.money.usage import TOKENS_MAX, Usage

CHARS_MAX = 16_000_000
"""More text than this is not counted: no model reads it, and counting it would take seconds."""

# Measured on 414 recorded calls: half within one token, three quarters within 10 %, all together 6 % low. Schemas of
# functions and answers reach the model in a notation of about 0.7 times the tokens of their JSON.
_PRIMING_TOKENS = 3
_MESSAGE_TOKENS = 4
_SCHEMA_TENTHS = 7

_ELSEWHERE = ("previous_response_id", "conversation", "prompt")
_COUNTED_TOOLS = frozenset({"function", "custom", "namespace", "apply_patch", "local_shell", "tool_search"})
_TEXT_PARTS = frozenset({"input_text", "output_text", "text", "summary_text", "refusal"})
_CALLS = {
    "function_call": ("name", "arguments"),
    "function_call_output": ("output",),
    "custom_tool_call": ("name", "input"),
    "custom_tool_call_output": ("output",),
}
# Deltas that are not tokens of the model's output: base64, and what a command printed.
_OTHER_DELTAS = frozenset({"response.audio.delta", "response.shell_call_output_content.delta"})
_PENDING_MAX = 20_000


class Uncountable(NamedTuple):
    """The input cannot be counted; the reason is a sentence for a person."""

    reason: str


class _UncountableError(Exception):
    """Raised inside this module where a part of the input cannot be counted."""


class OutputCounter:
    """Output tokens of a stream so far, from the text that reached us; hidden reasoning is not in it."""

    def __init__(self) -> None:
        self._pending: list[str] = []
        self._pending_chars = 0
        self._counted = 0

    def feed(self, event: Mapping[str, Any]) -> None:
        """Take one parsed stream event; only deltas count, since the `done` events repeat them."""
        kind, delta = event.get("type"), event.get("delta")
        if isinstance(kind, str) and isinstance(delta, str) and kind.endswith(".delta") and kind not in _OTHER_DELTAS:
            self.feed_text(delta)

    def feed_text(self, text: str) -> None:
        """Take text of the answer. Counts, and so blocks, once in 20,000 characters."""
        self._pending.append(text)
        self._pending_chars += len(text)
        if self._pending_chars >= _PENDING_MAX:
            self._count()

    @property
    def tokens(self) -> int:
        """Tokens fed so far. Blocks."""
        if self._pending:
            self._count()
        return self._counted

    def _count(self) -> None:
        self._counted += count_tokens("".join(self._pending))
        self._pending.clear()
        self._pending_chars = 0


def estimate_input_tokens(request: Mapping[str, Any]) -> int | Uncountable:
    """Count the input tokens of a request body of `POST /responses`, or say why they cannot be counted. Blocks."""
    for name in _ELSEWHERE:
        if request.get(name):
            return Uncountable(f"{name} refers to input that is not in the request")
    try:
        messages = list(_read_messages(request))
        schema = _read_schemas(request)
    except (_UncountableError, RecursionError) as error:
        return Uncountable(str(error) or "the request is nested too deeply")
    chars = sum(map(len, messages)) + len(schema)
    if chars > CHARS_MAX:
        return Uncountable(f"the request has {chars} characters of text, more than the {CHARS_MAX} that are counted")
    total = sum(count_tokens(message) for message in messages)
    return total + _PRIMING_TOKENS + _MESSAGE_TOKENS * len(messages) + count_tokens(schema) * _SCHEMA_TENTHS // 10


def estimate_charge(
    body: Mapping[str, Any],
    output_tokens: int,
    *,
    reason: str,
    model: str,
    at: datetime,
    prices: PriceBook,
    request: RequestFacts,
    deployment: str = "",
    region: str = "",
) -> Charge:
    """Price a call by counted tokens: state `estimated`, or `unknown` when input or price cannot be known. Blocks.

    `reason` says why there is no usage. All input counts as uncached (caching would make it cheaper), reasoning that
    was not shown does not count (it would make it dearer), the tier is the requested one.
    """
    counted = estimate_input_tokens(body)
    if isinstance(counted, Uncountable):
        return unknown_cost(f"{reason}; not estimated: {counted.reason}", request=request)
    asked = canonical_tier(request.requested_tier)
    usage = Usage(
        input_tokens=min(counted, TOKENS_MAX),
        cached_tokens=0,
        cache_write_tokens=0,
        output_tokens=min(output_tokens, TOKENS_MAX),
        reasoning_tokens=0,
    )
    tier = "default" if asked in {"", "auto"} else asked
    charged = charge(
        usage, model=model, tier=tier, at=at, prices=prices, request=request, deployment=deployment, region=region
    )
    return as_estimate(charged, f"{reason}; tokens counted offline, without hidden reasoning")


def _read_messages(request: Mapping[str, Any]) -> Iterator[str]:
    instructions = request.get("instructions")
    if instructions is not None:
        yield _text(instructions, "instructions")
    given = request.get("input")
    if given is None:
        return
    if isinstance(given, str):
        yield given
        return
    for item in _sequence(given, "input"):
        yield _read_item(_mapping(item, "an input item"))


def _read_item(item: Mapping[str, Any]) -> str:
    kind = item.get("type", "message")
    if kind == "message":
        return _text(item.get("content"), "content")
    if kind not in _CALLS:
        raise _UncountableError(f"an input item of type {text_of(kind)!r} cannot be counted")
    return " ".join(_text(item.get(name), name) for name in _CALLS[kind])


def _text(value: Any, where: str) -> str:
    """Text of a string or of a list of text parts."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    texts: list[str] = []
    for part in _sequence(value, where):
        members = _mapping(part, where)
        kind = text_of(members.get("type"))
        text = members.get("refusal" if kind == "refusal" else "text")
        if kind not in _TEXT_PARTS or not isinstance(text, str):
            raise _UncountableError(f"{where} of type {kind!r} cannot be counted")
        texts.append(text)
    return "".join(texts)


def _read_schemas(request: Mapping[str, Any]) -> str:
    """The JSON of function definitions and of the answer's format."""
    schemas: list[Any] = []
    if request.get("tools") is not None:
        for tool in _sequence(request["tools"], "tools"):
            kind = text_of(_mapping(tool, "a tool").get("type"))
            if kind not in _COUNTED_TOOLS:
                raise _UncountableError(f"tool {kind!r} adds input that is not in the request")
            schemas.append(tool)
    text = request.get("text")
    if isinstance(text, Mapping):
        answer_format = cast("Mapping[str, Any]", text).get("format")
        if isinstance(answer_format, Mapping) and "schema" in answer_format:
            schemas.append(answer_format)
    return "\n".join(json.dumps(schema, separators=(",", ":"), ensure_ascii=False) for schema in schemas)


def _sequence(value: Any, where: str) -> Sequence[Any]:
    if not isinstance(value, list):
        raise _UncountableError(f"{where} is neither text nor a list")
    return cast("list[Any]", value)


def _mapping(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise _UncountableError(f"{where} is not an object")
    return cast("Mapping[str, Any]", value)
