"""What the book says when it cannot do what it is asked; pure, so that the engine can tell the cases apart.

LedgerError
+-- FencedError              the call's journal was taken over, or lost its tail
+-- LedgerUnavailableError   nothing can be recorded now
"""


class LedgerError(Exception):
    """The book cannot take what it is given."""


class FencedError(LedgerError):
    """The journal was taken over or lost its tail: it takes nothing more, and what was pending is not in it."""


class LedgerUnavailableError(LedgerError):
    """Nothing can be recorded now, so nothing may be forwarded; the caller may come again after `retry_after_s`."""

    retry_after_s = 2
