"""The SDK's own errors. Whatever the upstream or the network does is raised as the `openai` package's exceptions.

SdkError
|-- UsageError       (also a ValueError) arguments or configuration that cannot be used; nothing was sent
+-- RecordingError   the book cannot record; nothing was sent
"""


class SdkError(Exception):
    """The SDK cannot go on; the message says why."""


class UsageError(SdkError, ValueError):
    """Arguments or a configuration that cannot be used; nothing was sent."""


class RecordingError(SdkError):
    """A book was configured and cannot record now; nothing was sent."""
