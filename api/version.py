"""The version of this installation."""

from importlib.metadata import PackageNotFoundError, version

DISTRIBUTION = "responses-ledger"


def _read() -> str:
    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:
        return "0.1.0+source"


VERSION = _read()
