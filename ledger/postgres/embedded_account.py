"""Which user of the operating system Postgres runs as.

Postgres refuses to run as root. For an ordinary user it runs as that user; for root as the owner of an existing
cluster, otherwise as a system user of its own. No permission of a directory that is not ours is ever changed: what that
user cannot reach is copied or put elsewhere by `embedded_binaries.py` and `embedded_cluster.py`.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import pwd
import shutil
import subprocess
from pathlib import Path

from ledger.postgres.embedded_error import EmbeddedPostgresError
from ledger.postgres.embedded_process import child_environment

NAME = "responses-ledger"
TIMEOUT_S = 20

#: How different systems make a system user without home and shell; the first program that exists and succeeds.
RECIPES = (
    ("useradd", "--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent", "--shell", "/bin/false"),
    ("adduser", "--system", "--group", "--no-create-home", "--home", "/nonexistent", "--shell", "/bin/false"),
    ("adduser", "-S", "-D", "-H", "-h", "/nonexistent", "-s", "/bin/false"),  # busybox
)

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Account:
    """A user that root switches to for everything that Postgres does."""

    name: str
    uid: int
    gid: int

    def may(self, test: str, path: Path) -> bool:
        """Ask as this user whether `test -x|-r|-w PATH` holds, so that every kind of permission counts."""
        return self._run("test", test, str(path)).returncode == 0

    def can_run(self, program: Path) -> bool:
        """Tell whether this user can execute `PROGRAM --version`."""
        return self.may("-x", program) and self._run(str(program), "--version").returncode == 0

    def _run(self, *command: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(  # noqa: S603 - fixed programs, no shell
            command,
            check=False,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            cwd="/",
            env=child_environment(),
            timeout=TIMEOUT_S,
            user=self.uid,
            group=self.gid,
            extra_groups=[],
        )


def choose(cluster: Path) -> Account | None:
    """Choose who runs Postgres on `cluster`; None means the caller's own user.

    Raises:
        EmbeddedPostgresError: the cluster belongs to another user, or root may not switch users here.
    """
    owner = _owner(cluster)
    if os.geteuid() != 0:
        if owner is not None and owner != os.geteuid():
            raise EmbeddedPostgresError(
                f"the embedded Postgres in {cluster} belongs to user {_name(owner)}, this process runs as "
                f"{_name(os.geteuid())}; start it as the user who started it first, or set LLM_DATA_DIR to another "
                f"directory, or set DATABASE_URL"
            )
        return None
    account = _system_account() if owner in {None, 0} else _account(owner or 0)
    try:
        account.may("-x", Path("/"))
    except (OSError, subprocess.SubprocessError) as error:
        raise EmbeddedPostgresError(
            f"Postgres does not run as root, and this root may not switch to user {account.name} ({error}); "
            f"start as an ordinary user, or set DATABASE_URL"
        ) from error
    return account


def require_name() -> None:
    """Refuse a user id without an entry in the passwd database, which initdb needs; EmbeddedPostgresError."""
    try:
        pwd.getpwuid(os.geteuid())
    except KeyError:
        raise EmbeddedPostgresError(
            f"user id {os.geteuid()} has no name in /etc/passwd, without which Postgres cannot make a cluster; "
            f"start as a user who has one, or set DATABASE_URL"
        ) from None


def _owner(cluster: Path) -> int | None:
    try:
        return cluster.stat().st_uid
    except FileNotFoundError:
        return None
    except PermissionError as error:
        raise EmbeddedPostgresError(
            f"cannot look at {cluster}: {error.strerror}; start as the user who owns it, or set LLM_DATA_DIR to "
            f"another directory, or set DATABASE_URL"
        ) from error


def _name(uid: int) -> str:
    try:
        return f"{pwd.getpwuid(uid).pw_name} ({uid})"
    except KeyError:
        return str(uid)


def _account(uid: int) -> Account:
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        return Account(str(uid), uid, uid)
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def _system_account() -> Account:
    if (account := _lookup(NAME)) is not None:
        return account
    for program, *options in RECIPES:
        path = shutil.which(program, path=os.defpath + ":/usr/sbin:/sbin")
        if path is None:
            continue
        # The outcome is read from the passwd database: another process may have made the user at the same moment.
        subprocess.run(  # noqa: S603 - fixed programs, no shell
            [path, *options, NAME], check=False, capture_output=True, stdin=subprocess.DEVNULL, timeout=TIMEOUT_S
        )
        if (account := _lookup(NAME)) is not None:
            return account
    if (account := _lookup("nobody")) is not None:
        _log.warning(
            "cannot add a system user %s; Postgres runs as %s, whom it may share with others", NAME, account.name
        )
        return account
    raise EmbeddedPostgresError(
        f"Postgres does not run as root, and neither can a system user {NAME!r} be added nor is there a user 'nobody'; "
        f"add one with `useradd --system {NAME}`, start as an ordinary user, or set DATABASE_URL"
    )


def _lookup(name: str) -> Account | None:
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        return None
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)
