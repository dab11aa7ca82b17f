"""A proxy as a process of its own, as its operator starts it: for signals, kills, memory and exit codes."""

import os
import re
import selectors
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.proxy import Client, Config, write_config
from tests.support.proxy_book import Book

ROOT = Path(__file__).resolve().parents[2]
READY_S = 60.0
_RUNNING = re.compile(r"^RUNNING on http://127\.0\.0\.1:(\d+)$", re.MULTILINE)


class Proxy:
    """Starts at `with`, once its RUNNING line has come; killed at the end if it still lives."""

    def __init__(self, config: Config, database_url: str, directory: Path, *, num_workers: int = 1) -> None:
        self._command = [
            sys.executable, "-m", "api.cli", "--config", str(write_config(directory, config)), "--host", "127.0.0.1",
            "--port", "0", "--num_workers", str(num_workers), "--database_url", database_url,
        ]  # fmt: skip
        self._log_file = directory / "proxy.log"
        self._database_url = database_url
        self._directory = directory
        self.process: subprocess.Popen[str] | None = None
        self.url = ""
        self.printed = ""

    def __enter__(self) -> Self:
        environment = {"PATH": os.environ["PATH"], "LLM_DATA_DIR": str(self._directory / "data")}
        with self._log_file.open("a") as log:
            self.process = subprocess.Popen(
                self._command, stdout=subprocess.PIPE, stderr=log, text=True, cwd=ROOT, env=environment
            )
        try:
            self._wait_until_it_runs()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def _wait_until_it_runs(self) -> None:
        output = self._running().stdout
        assert output is not None
        deadline = time.monotonic() + READY_S
        with selectors.DefaultSelector() as selector:
            selector.register(output, selectors.EVENT_READ)
            while (found := _RUNNING.search(self.printed)) is None:
                assert time.monotonic() < deadline, f"not ready in {READY_S} s: {self.printed}{self.log}"
                if selector.select(1.0):
                    line = output.readline()
                    assert line, f"the proxy ended: {self.printed}{self.log}"
                    self.printed += line
        self.url = f"http://127.0.0.1:{found.group(1)}"

    def _running(self) -> subprocess.Popen[str]:
        assert self.process is not None, "the proxy is not started"
        return self.process

    @property
    def pid(self) -> int:
        """The process that was started; with workers, their parent."""
        return self._running().pid

    @property
    def log(self) -> str:
        """What it has logged so far."""
        return self._log_file.read_text()

    @property
    def resident_bytes(self) -> int:
        """The memory that the process holds now."""
        return self._status_bytes("VmRSS")

    @property
    def peak_bytes(self) -> int:
        """The most memory that the process has held since `forget_peak`."""
        return self._status_bytes("VmHWM")

    def forget_peak(self) -> None:
        """Begin a new measurement of the peak."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    def _status_bytes(self, name: str) -> int:
        status = Path(f"/proc/{self.pid}/status").read_text()
        found = re.search(rf"^{name}:\s+(\d+) kB$", status, re.MULTILINE)
        assert found is not None
        return int(found.group(1)) * 1024

    def client(self) -> Client:
        """A client with the master key."""
        return Client(self.url)

    def book(self) -> Book:
        """A reader of its book."""
        return Book(self._database_url)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self._running().send_signal(signal.SIGTERM)

    def wait(self, timeout_s: float = 30.0) -> int:
        """Wait for its end; returns its exit status."""
        return self._running().wait(timeout_s)

    def kill(self) -> None:
        """End it without warning; safe when it has ended."""
        process = self._running()
        if process.poll() is None:
            process.kill()
            process.wait(10)
        if process.stdout is not None:
            process.stdout.close()
