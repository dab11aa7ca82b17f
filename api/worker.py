"""A worker process: what its parent hands over by the environment, and the application made of it.

Apart from the command line, so that a worker loads nothing of it. The parent is `cli/serve.py`.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from api.config import load
from api.loading import collector_paused
from api.logs import follow_config, set_up_logging
from api.settings import Settings

if TYPE_CHECKING:
    from api.app import Application

_CONFIG: Final = "RESPONSES_LEDGER_WORKER_CONFIG"
_DATABASE: Final = "RESPONSES_LEDGER_WORKER_DATABASE_URL"
_MASTER_KEY: Final = "RESPONSES_LEDGER_WORKER_MASTER_KEY"
_METRICS: Final = "RESPONSES_LEDGER_WORKER_METRICS_DIR"
_PARENT: Final = "RESPONSES_LEDGER_WORKER_PARENT"

#: What `uvicorn` is told to make in each worker.
FACTORY: Final = "api.worker:make_application"


def hand_over(config_file: Path, database_url: str, master_key: str, metrics_dir: Path) -> None:
    """Put into this process's environment, which workers inherit, what they need."""
    os.environ.update(
        {
            _CONFIG: str(config_file.absolute()),
            _DATABASE: database_url,
            _MASTER_KEY: master_key,
            _METRICS: str(metrics_dir),
            _PARENT: str(os.getpid()),
        }
    )


def make_application() -> "Application":
    """Make the application of a worker process."""
    set_up_logging()
    environ = Settings.read().environ
    config = load(Path(environ[_CONFIG]), environ)
    follow_config(config, environ[_DATABASE], environ[_MASTER_KEY])
    parent_pid = int(environ[_PARENT])
    with collector_paused():
        from api.app import Application  # noqa: PLC0415 - the parent, which hands over, does not need it

        return Application(
            config,
            environ[_DATABASE],
            environ[_MASTER_KEY],
            parent_pid,
            owns_process=True,
            metrics_dir=Path(environ[_METRICS]),
        )
