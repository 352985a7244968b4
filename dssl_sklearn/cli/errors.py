"""Exit codes, and the error of a command that was called wrongly."""

from __future__ import annotations

#: All is done.
OK = 0
#: The data cannot be used, or a file cannot be written; one sentence says why.
DATA_PROBLEM = 1
#: The command was called wrongly: unknown options, missing files or columns, existing outputs.
USAGE = 2
#: Stopped by the user.
INTERRUPTED = 130


class UsageError(Exception):
    """The command was called wrongly; the message says how to call it."""
