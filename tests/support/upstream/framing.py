"""Builds answers from bodies: head, content-length or chunked framing, and the pieces that TCP carries.

The boundaries of SSE blocks, HTTP chunks and TCP pieces are independent of each other here, as they are in the world.
"""

import random
from collections.abc import Sequence
from http import HTTPStatus
from typing import Literal

from tests.support.upstream.steps import Answer, Close, Header, Reset, StayOpen, Step, Write, cut, paced, random_cuts

Framing = Literal["length", "chunked", "close"]
Ending = Literal["complete", "close", "reset", "stay_open"]
SSE_TYPE: Header = ("content-type", "text/event-stream; charset=utf-8")
JSON_TYPE: Header = ("content-type", "application/json")
LAST_CHUNK = b"0\r\n\r\n"


def head(status: int, headers: Sequence[Header]) -> bytes:
    """Status line and headers, through the blank line."""
    try:
        reason = HTTPStatus(status).phrase
    except ValueError:
        reason = "Unknown"
    lines = [f"HTTP/1.1 {status} {reason}", *(f"{name}: {value}" for name, value in headers)]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def http_chunks(pieces: Sequence[bytes]) -> bytes:
    """Each piece as an HTTP chunk, without the last chunk."""
    return b"".join(b"%x\r\n" % len(piece) + piece + b"\r\n" for piece in pieces if piece)


def sse_blocks(body: bytes) -> list[bytes]:
    """The blocks of a stream whose line ends are LF, each with its blank line; an unterminated rest is the last."""
    pieces = body.split(b"\n\n")
    blocks = [piece + b"\n\n" for piece in pieces[:-1]]
    return [*blocks, pieces[-1]] if pieces[-1] else blocks


def plain(
    body: bytes,
    *,
    status: int = 200,
    headers: Sequence[Header] = (JSON_TYPE,),
    framing: Framing = "length",
    seed: int | None = None,
    pieces: int = 4,
    pause_s: float = 0.002,
    name: str = "plain",
) -> Answer:
    """An answer with this body; with a seed, cut at random into that many pieces with pauses between them."""
    rng = random.Random(seed)
    if framing == "chunked":
        sent = [*headers, ("transfer-encoding", "chunked")]
        payload = http_chunks(random_cuts(body, rng, pieces) if seed is not None else [body]) + LAST_CHUNK
    elif framing == "length":
        sent, payload = [*headers, ("content-length", str(len(body)))], body
    else:
        sent, payload = [*headers, ("connection", "close")], body
    wire = head(status, sent) + payload
    steps = paced(random_cuts(wire, rng, pieces), pause_s) if seed is not None else (Write(wire),)
    keep_alive = framing != "close"
    return Answer(name, steps if keep_alive else (*steps, Close()), status, tuple(sent), body, keep_alive)


def stream(
    body: bytes,
    *,
    status: int = 200,
    headers: Sequence[Header] = (SSE_TYPE,),
    seed: int | None = None,
    pieces: int = 7,
    cuts: Sequence[int] | None = None,
    pause_s: float = 0.002,
    ending: Ending = "complete",
    name: str = "stream",
) -> Answer:
    """A chunked answer with this body.

    With `cuts`, the body is cut at these positions, each piece one HTTP chunk and one TCP piece. With a seed, HTTP
    chunks and TCP pieces are cut at random, independently. With neither, each block is a chunk and a piece. Pauses
    lie between the pieces. `ending` other than `complete` leaves out the last chunk.
    """
    sent = [*headers, ("transfer-encoding", "chunked")]
    start = head(status, sent)
    last = LAST_CHUNK if ending == "complete" else b""
    if seed is not None and cuts is None:
        rng = random.Random(seed)
        wire = start + http_chunks(random_cuts(body, rng, max(pieces // 2, 1))) + last
        steps = paced(random_cuts(wire, rng, pieces), pause_s)
    else:
        parts = cut(body, cuts) if cuts is not None else sse_blocks(body)
        steps = paced([start, *(http_chunks([part]) for part in parts), *([last] if last else [])], pause_s)
    return Answer(name, steps + ending_steps(ending), status, tuple(sent), body, keep_alive=ending == "complete")


def ending_steps(ending: Ending) -> tuple[Step, ...]:
    """What happens on the connection after the last byte."""
    return {"complete": (), "close": (Close(),), "reset": (Reset(),), "stay_open": (StayOpen(),)}[ending]
