"""Keeps the embedded Postgres alive for as long as a proxy runs, whatever is killed around it.

Its watcher restarts a server that died; here is who replaces the watcher: a thread of the process that started the
server, since the watcher is nobody's child.
"""

import contextlib
import logging
import threading
from collections.abc import Generator
from typing import Final

from ledger.postgres.embedded import EmbeddedPostgresError, EmbeddedServer

logger = logging.getLogger(__name__)

LOOK_S: Final = 5.0


@contextlib.contextmanager
def kept_running(server: EmbeddedServer, look_s: float = LOOK_S) -> Generator[None]:
    """Look every `look_s` seconds whether watcher and server are there, and bring back what is not."""
    is_over = threading.Event()
    thread = threading.Thread(target=_keep, args=(server, look_s, is_over), daemon=True, name="embedded postgres")
    thread.start()
    try:
        yield
    finally:
        is_over.set()


def _keep(server: EmbeddedServer, look_s: float, is_over: threading.Event) -> None:
    said = ""
    while not is_over.wait(look_s):
        try:
            server.ensure_running()
        except (EmbeddedPostgresError, OSError) as error:
            if str(error) != said:
                logger.warning("the embedded Postgres cannot be brought back, and is tried again: %s", error)
            said = str(error)
        else:
            said = ""
