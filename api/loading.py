"""How the program's modules are loaded fast: with the garbage collector at rest."""

import gc
from collections.abc import Generator
from contextlib import contextmanager


@contextmanager
def collector_paused() -> Generator[None]:
    """Let the garbage collector rest: what is loaded stays, and walking it is a sixth of the loading."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
