"""Puts load on a URL with `wrk` (or `oha`) and reads what it reports.

The load generator is a known one, not ours; where neither is installed, `find_generator` says so. `latency` measures
what these cannot: the time to a stream's first chunk.
"""

import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
_UNITS_MS = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0}
BODIES = {
    kind: json.dumps(
        {"model": "gpt-4o", "input": "Tell me about the ledger that the river keeps.", "user": "bench-user"} | extra
    )
    for kind, extra in {"plain": {}, "stream": {"stream": True}}.items()
}


class LoadError(Exception):
    """The load generator is missing, failed, or its output was not understood."""


@dataclass(frozen=True)
class Load:
    """What one run saw: completed requests, rate, latency in milliseconds, and everything that was not a 2xx answer."""

    requests: int
    requests_per_s: float
    p50_ms: float
    p99_ms: float
    errors: int


def find_generator() -> str | None:
    """`wrk` or `oha`, whichever is installed first in this order, else None."""
    return next((name for name in ("wrk", "oha") if shutil.which(name)), None)


def put_load(url: str, *, kind: str, connections: int, seconds: float, key: str = "sk-bench") -> Load:
    """Load `url` for `seconds` with calls of `kind` (plain or stream) over that many kept-alive connections."""
    generator = find_generator()
    if generator is None:
        raise LoadError(
            "neither wrk nor oha is installed: HTTP throughput cannot be measured here (Debian: apt-get install wrk)"
        )
    argv = (
        _wrk_argv(url, kind, connections, seconds)
        if generator == "wrk"
        else _oha_argv(url, kind, connections, seconds, key)
    )
    done = subprocess.run(
        argv, capture_output=True, text=True, check=False, env={**os.environ, "BENCH_KEY": key}, timeout=seconds + 60
    )
    if done.returncode != 0:
        raise LoadError(f"{generator} exited with {done.returncode}: {done.stderr.strip() or done.stdout.strip()}")
    return read_wrk(done.stdout) if generator == "wrk" else read_oha(json.loads(done.stdout))


def _wrk_argv(url: str, kind: str, connections: int, seconds: float) -> list[str]:
    script = HERE / f"{kind}.lua"
    return [
        "wrk",
        "-t1",
        f"-c{connections}",
        f"-d{round(seconds)}s",
        "--timeout",
        "20s",
        "--latency",
        "-s",
        str(script),
        url,
    ]


def _oha_argv(url: str, kind: str, connections: int, seconds: float, key: str) -> list[str]:
    head = [
        "-m",
        "POST",
        "-H",
        "content-type: application/json",
        "-H",
        f"authorization: Bearer {key}",
        "-d",
        BODIES[kind],
    ]
    return ["oha", "--no-tui", "-j", "-c", str(connections), "-z", f"{seconds}s", *head, f"{url}/v1/responses"]


def read_wrk(text: str) -> Load:
    """The figures in wrk's report."""
    total = re.search(r"(\d+) requests in", text)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", text)
    if not total or not rate:
        raise LoadError(f"wrk's report has no totals:\n{text}")
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    socket_errors = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", text)
    errors = (int(refused[1]) if refused else 0) + (sum(map(int, socket_errors.groups())) if socket_errors else 0)
    return Load(int(total[1]), float(rate[1]), _percentile_ms(text, 50), _percentile_ms(text, 99), errors)


def _percentile_ms(text: str, percent: int) -> float:
    found = re.search(rf"^\s+{percent}%\s+([\d.]+)(us|ms|s|m)\s*$", text, re.MULTILINE)
    if not found:
        raise LoadError(f"wrk's report has no {percent} % latency:\n{text}")
    return float(found[1]) * _UNITS_MS[found[2]]


def read_oha(report: dict[str, Any]) -> Load:
    """The figures in oha's JSON report (version 1)."""
    statuses: dict[str, int] = report["statusCodeDistribution"]
    good = sum(count for status, count in statuses.items() if status.startswith("2"))
    errors = sum(statuses.values()) - good + sum(report.get("errorDistribution", {}).values())
    percentiles = report["latencyPercentiles"]
    return Load(
        good, float(report["summary"]["requestsPerSec"]), percentiles["p50"] * 1000, percentiles["p99"] * 1000, errors
    )
