"""Where the files of an embedded server lie.

All of them are in `<data directory>/postgres/`, except the cluster itself where Postgres runs as another user who
cannot reach that place; then the file `location` there says where it is.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class Layout:
    """Paths below `home`, which is `<data directory>/postgres`."""

    home: Path

    @property
    def state_lock(self) -> Path:
        """Held by whoever starts or releases: one decision at a time."""
        return self.home / "state.lock"

    @property
    def users_lock(self) -> Path:
        """Held shared by every proxy, alone by a watcher that stops the server."""
        return self.home / "users.lock"

    @property
    def watcher_lock(self) -> Path:
        """Held by the living watcher."""
        return self.home / "watcher.lock"

    @property
    def watcher_pid(self) -> Path:
        """The watcher's process id; believed only while its lock is held."""
        return self.home / "watcher.pid"

    @property
    def password(self) -> Path:
        """The superuser's password, mode 0600."""
        return self.home / "password"

    @property
    def port(self) -> Path:
        """The port of the last start, taken again when it is still free."""
        return self.home / "port"

    @property
    def location(self) -> Path:
        """The path of a cluster that lies elsewhere."""
        return self.home / "location"

    @property
    def log(self) -> Path:
        """What the postmaster and the watcher say."""
        return self.home / "server.log"

    @property
    def cluster(self) -> Path:
        """Where the cluster is, or will be unless its user cannot reach it."""
        if self.location.exists():
            return Path(self.location.read_text().strip("\n"))
        return self.home / "cluster"
