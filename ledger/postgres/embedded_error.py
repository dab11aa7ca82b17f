"""The one error of the embedded Postgres.

Kept apart from its neighbours `embedded*.py` because all of them raise it and the watcher, which loads nothing but the
standard library, must be able to import it alone.
"""

from __future__ import annotations


class EmbeddedPostgresError(Exception):
    """The embedded Postgres cannot be set up, started or stopped; the message says why and what to do."""
