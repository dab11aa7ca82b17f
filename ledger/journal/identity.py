"""Who writes a journal, said so that another process on the same machine can tell at once whether it still lives.

Elsewhere only the heartbeat tells. Process ids are compared only within one boot and one process namespace, together
with the start of the process, so that neither containers nor reused ids deceive.
"""

import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_NAMESPACE = Path("/proc/self/ns/pid")


def writer_identity(version: str) -> dict[str, Any]:
    """Return host, process and version of this process, as `ledger.journals.writer` holds them."""
    pid = os.getpid()
    return {"host": socket.gethostname(), "pid": pid, "version": version, **_surroundings(), "started": _started(pid)}


def is_certainly_dead(writer: Mapping[str, Any]) -> bool:
    """Tell whether the writer is a process of this machine that has ended; False where that cannot be known."""
    here = _surroundings()
    if here["boot_id"] is None or any(writer.get(name) != value for name, value in here.items()):
        return False
    pid, started = writer.get("pid"), writer.get("started")
    if not isinstance(pid, int) or started is None:
        return False
    return _started(pid) != started


def _surroundings() -> dict[str, str | None]:
    try:
        return {"boot_id": _BOOT_ID.read_text().strip(), "pid_namespace": str(_NAMESPACE.readlink())}
    except OSError:
        return {"boot_id": None, "pid_namespace": None}


def _started(pid: int) -> str | None:
    """Return a process's start in clock ticks since boot; None when it has ended, as a zombie too."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The second field, the name, may hold blanks and brackets; the state follows it, the start is field 22 (proc(5)).
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in {"Z", "X"} else fields[19]
