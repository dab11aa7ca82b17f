"""What a measurement was made on: machine, versions, and how durable the database's commits are.

Figures without these are not comparable, so `scripts/bench` prints them first.
"""

import os
import platform
import shutil
import subprocess
from importlib import metadata
from pathlib import Path

from ledger.postgres.connect import connect

DURABILITY = ("fsync", "synchronous_commit", "full_page_writes", "wal_sync_method")
_SIZES = ("shared_buffers", "max_wal_size", "wal_compression", "commit_delay")
_PACKAGES = ("uvicorn", "uvloop", "httptools", "fastapi", "httpx", "httpx-aiohttp", "aiohttp", "asyncpg")


class NotDurableError(Exception):
    """The database acknowledges commits that a crash can take back, so that its figures would flatter."""


def describe_machine(data_dir: Path) -> list[str]:
    """Processor, memory, disk, load before the run, versions."""
    free = shutil.disk_usage(data_dir).free // 2**30
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2**30
    load = ", ".join(f"{value:.2f}" for value in os.getloadavg())
    versions = " ".join(f"{name} {metadata.version(name)}" for name in _PACKAGES)
    return [
        f"machine: {_processor()}, {os.cpu_count()} cores, {memory} GiB, {platform.system()} {platform.release()}",
        f"data directory: {data_dir} ({_filesystem(data_dir)}, {free} GiB free); load before: {load}",
        f"versions: Python {platform.python_version()} {versions} {_wrk_version()}",
    ]


async def describe_database(url: str) -> list[str]:
    """Version and settings of the database that the figures depend on.

    Raises:
        NotDurableError: fsync, synchronous_commit or full_page_writes is off.
    """
    connection = await connect(url, purpose="benchmark", role=None)
    try:
        version = await connection.fetchval("SHOW server_version")
        values = {name: str(await connection.fetchval(f"SHOW {name}")) for name in (*DURABILITY, *_SIZES)}
    finally:
        await connection.close()
    off = [name for name in DURABILITY if values[name] == "off"]
    if off:
        raise NotDurableError(f"{', '.join(off)} off: measure against a database that keeps what it acknowledges")
    told = [" ".join(f"{name}={values[name]}" for name in names) for names in (DURABILITY, _SIZES)]
    return [f"database: Postgres {version}", f"durability: {told[0]}", f"settings: {told[1]}"]


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _filesystem(path: Path) -> str:
    """Type of the filesystem that holds `path`, read from the mounts."""
    try:
        mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    except OSError:
        return "unknown filesystem"
    holding = [m for m in mounts if path.resolve().is_relative_to(m[1])]
    return max(holding, key=lambda m: len(m[1]))[2] if holding else "unknown filesystem"


def _wrk_version() -> str:
    wrk = shutil.which("wrk")
    if wrk is None:
        return "wrk absent"
    first = subprocess.run([wrk, "-v"], capture_output=True, text=True, check=False).stdout.partition("\n")[0]
    return " ".join(first.split()[:2])
