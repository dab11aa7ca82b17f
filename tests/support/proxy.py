"""A proxy in the test's own loop: the real application under the real server, on a free port, over real sockets.

For everything that needs no process of its own; `proxy_process.py` starts one. What is in the book is read by
`proxy_book.py`, with SQL of the tests' own.
"""

import asyncio
import json
import socket
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from uuid import UUID

import aiohttp
import uvicorn

from api.app import Application
from api.config import load
from api.http_protocol import protocol
from llm.upstream import Headers, Upstream, UpstreamAnswer, UpstreamRequest
from tests.support.proxy_book import Book

MASTER_KEY = "sk-master-key-of-the-tests"
Config = dict[str, Any]


def deployment(name: str, base: str, *, model: str | None = None, deployment_id: str = "", **params: Any) -> Config:
    """An entry of `model_list`: clients ask for `name`, `base` (with /v1) is asked for `model`."""
    entry: Config = {
        "model_name": name,
        "llm_params": {"model": f"openai/{model or name}", "api_base": base, "api_key": "sk-upstream", **params},
    }
    return entry | ({"model_info": {"id": deployment_id}} if deployment_id else {})


def configuration(
    models: Sequence[Config], *, general: Mapping[str, Any] | None = None, router: Mapping[str, Any] | None = None
) -> Config:
    """A configuration with the tests' master key and one retry; the tokenizer is loaded when it is needed."""
    return {
        "model_list": list(models),
        "general_settings": {
            "master_key": MASTER_KEY,
            "lease_s": 5,
            "load_tokenizer": "first_use",
            **(general or {}),
        },
        "router_settings": {"num_retries": 1, **(router or {})},
    }


def write_config(directory: Path, config: Config) -> Path:
    """Write a configuration as the file that the command line takes; JSON is YAML."""
    path = directory / "config.yaml"
    path.write_text(json.dumps(config, indent=1))
    return path


class Pieces:
    """An upstream that counts the pieces in which the relay receives each answer; otherwise the one behind it."""

    def __init__(self, inner: Upstream) -> None:
        self._inner = inner
        #: Pieces by the value of the answer's `x-count-as` header, or by "".
        self.counts: Counter[str] = Counter()
        self._arrived = asyncio.Event()

    def note(self, label: str) -> None:
        """Count a piece."""
        self.counts[label] += 1
        self._arrived.set()

    async def more_than(self, count: int, label: str = "", timeout_s: float = 10.0) -> None:
        """Wait until more than `count` pieces have come."""
        async with asyncio.timeout(timeout_s):
            while self.counts[label] <= count:
                self._arrived.clear()
                await self._arrived.wait()

    async def send(self, request: UpstreamRequest) -> UpstreamAnswer:
        """Send, and count what comes."""
        label = next((value for name, value in request.headers if name == "x-count-as"), "")
        return _Counted(await self._inner.send(request), self, label)

    async def aclose(self) -> None:
        """Close what is behind."""
        await self._inner.aclose()


class _Counted:
    def __init__(self, inner: UpstreamAnswer, counter: Pieces, label: str) -> None:
        self.status: int = inner.status
        self.headers: Headers = inner.headers
        self._inner = inner
        self._counter = counter
        self._label = label

    async def pieces(self) -> AsyncIterator[bytes]:
        async for piece in self._inner.pieces():
            self._counter.note(self._label)
            yield piece

    async def aclose(self) -> None:
        await self._inner.aclose()


class Answered:
    """A whole answer as a client got it: its bytes still coded, whether its end was announced."""

    def __init__(self, response: aiohttp.ClientResponse, body: bytes, *, is_complete: bool) -> None:
        self.status = response.status
        self.headers = response.headers
        self.body = body
        self.is_complete = is_complete

    @property
    def call_id(self) -> UUID:
        """The call's id in the book."""
        return UUID(self.headers["x-llm-call-id"])

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        """The error of a refusal, in OpenAI's shape."""
        return self.json["error"]


class Client:
    """A client over raw bytes: nothing is decoded, no connection is used twice unless `keep_alive`."""

    def __init__(self, url: str, key: str = MASTER_KEY, *, keep_alive: bool = False) -> None:
        self.url = url
        self._key = key
        self._keep_alive = keep_alive
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(force_close=not self._keep_alive, limit=0)
        self._session = aiohttp.ClientSession(
            connector=connector, auto_decompress=False, timeout=aiohttp.ClientTimeout(total=60), max_line_size=65_536
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    def open(
        self,
        body: Any = None,
        *,
        method: str = "POST",
        path: str = "/v1/responses",
        chunked: bool = False,
        **headers: str,
    ) -> Any:
        """Send a request; use as `async with`, it gives the response once its head is there.

        `body`: bytes as they are, anything else as JSON. Names of headers have underscores for hyphens.
        """
        assert self._session is not None, "the client is not entered"
        sent = {"authorization": f"Bearer {self._key}", "accept-encoding": "identity"}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        if data is not None:
            sent.setdefault("content-type", "application/json")
        # A large body goes out in pieces; from a generator its length is not told.
        payload = None if data is None else _pieces(data) if chunked else BytesIO(data)
        return self._session.request(method, self.url + path, data=payload, headers=sent, allow_redirects=False)

    async def send(
        self,
        body: Any = None,
        *,
        method: str = "POST",
        path: str = "/v1/responses",
        chunked: bool = False,
        **headers: str,
    ) -> Answered:
        """Send a request and read the answer to its end, or to where it breaks off."""
        async with self.open(body, method=method, path=path, chunked=chunked, **headers) as response:
            return await read(response)


async def _pieces(data: bytes) -> AsyncIterator[bytes]:
    for at in range(0, len(data), 1 << 16):
        yield data[at : at + (1 << 16)]


async def read(response: aiohttp.ClientResponse) -> Answered:
    """Read an answer to its end, or to where it breaks off."""
    body = bytearray()
    is_complete = False
    with suppress(aiohttp.ClientPayloadError, ConnectionError):
        async for piece in response.content.iter_any():
            body += piece
        is_complete = True
    return Answered(response, bytes(body), is_complete=is_complete)


async def read_until(response: aiohttp.ClientResponse, mark: bytes, timeout_s: float = 10.0) -> bytes:
    """Read from an answer until `mark` has come; returns what came."""
    got = b""
    async with asyncio.timeout(timeout_s):
        while mark not in got:
            piece = await response.content.readany()
            assert piece, f"the answer ended without {mark!r}: {got[-300:]!r}"
            got += piece
    return got


async def raw_exchange(url: str, *lines: str, key: str = MASTER_KEY) -> str:
    """Send a request's head exactly as it is given, with the key, and return the whole answer as text."""
    host, port = url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    head = [*lines, f"host: {host}", f"authorization: Bearer {key}", "connection: close", "", ""]
    writer.write("\r\n".join(head).encode("latin-1"))
    answer = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    await writer.wait_closed()
    return answer.decode("latin-1")


class LocalProxy:
    """A running proxy. `client` is its master's, `book` reads its events, `pieces` counts what its relay receives."""

    def __init__(self, config: Config, database_url: str, directory: Path) -> None:
        loaded = load(write_config(directory, config), {})
        self.application = Application(loaded, database_url, MASTER_KEY)
        self.pieces = Pieces(self.application._upstream)
        self.application._upstream = self.pieces  # pyright: ignore[reportAttributeAccessIssue] - the same protocol
        self.book = Book(database_url)
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._socket.setblocking(False)
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self.client = Client(self.url)
        self._server = uvicorn.Server(
            uvicorn.Config(
                self.application,  # pyright: ignore[reportArgumentType] - ASGI by shape
                loop="none",
                http=protocol(loaded.general.head_timeout_s),
                ws="none",
                lifespan="on",
                log_config=None,
                access_log=False,
                timeout_graceful_shutdown=10,
            )
        )
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        # Not `serve`, which would take the test run's signals.
        self._task = asyncio.create_task(self._server._serve([self._socket]))
        while not self._server.started:
            assert not self._task.done(), "the proxy did not start; see the log"
            await asyncio.sleep(0.005)
        await self.client.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.client.__aexit__(kind, error, trace)
        self._server.should_exit = True
        if self._task is not None:
            async with asyncio.timeout(30):
                await self._task
        await self.book.close()
