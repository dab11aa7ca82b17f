"""HTTP as bytes on a socket, for requests that no client library would send. Uses nothing of the product."""

import asyncio
import json
from dataclasses import dataclass
from typing import Any

WAIT_S = 20.0


@dataclass(frozen=True, slots=True)
class RawAnswer:
    """One answer: status, headers (names in lower case), body."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


def request(
    method: str = "POST",
    target: str = "/v1/responses",
    body: bytes = b"",
    *headers: tuple[str, str],
    version: str = "1.1",
    key: str | None = None,
    length: bool = True,
) -> bytes:
    """A request's bytes; with `length`, its content-length; it asks for the connection to be closed."""
    lines = [f"{method} {target} HTTP/{version}", "host: proxy", "connection: close"]
    lines += [f"{name}: {value}" for name, value in headers]
    lines += [f"authorization: Bearer {key}"] if key else []
    lines += [f"content-length: {len(body)}"] if length and (body or method == "POST") else []
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


async def exchange(url: str, sent: bytes, *, half_close: bool = False) -> bytes:
    """Send bytes and return whatever comes until the server closes."""
    host, port = url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        try:
            writer.write(sent)
            await writer.drain()
            if half_close:
                writer.write_eof()
        except ConnectionError:
            pass  # refused before all was sent; the answer is what counts
        return await asyncio.wait_for(reader.read(), WAIT_S)
    finally:
        writer.close()


def answers(received: bytes) -> list[RawAnswer]:
    """The answers in what was received, one after another; interim ones (1xx) are among them."""
    found: list[RawAnswer] = []
    while received:
        head, _, rest = received.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        body = rest[: int(headers.get("content-length", "0"))]
        if headers.get("transfer-encoding") == "chunked":
            body, rest = rest, b""
        found.append(RawAnswer(int(first.split(" ")[1]), headers, body))
        received = rest[len(body) :]
    return found
