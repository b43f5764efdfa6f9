"""The errors a caller can act on; what the far side does wrong is a value, not an exception.

ResubmitError                 exit 1
├── UsageError                exit 2   the command line or a file given to it is wrong
│   └── ConfigError                    every problem of a config, one a line
├── NothingMatched            exit 3
├── NotPermitted              exit 4
├── RefusedBySafety           exit 6   a safety rule says no; `hint` says what would change that
├── NotReachable              exit 7   service, next hop or address not reachable
├── JournalError              exit 1
│   ├── JournalLocked         exit 6   another process writes this journal
│   ├── JournalUnreadable              missing, damaged, of another version, or not ours to read
│   └── JournalFull           (also OSError) below a disk floor
└── Refused                            an SMTP reply an intake gives its client
"""

from __future__ import annotations


class ResubmitError(Exception):
    """Something went wrong that a person can be told in a sentence.

    `hint` says what to do next; `fields` go to the log with it. `exit_code` is the command's.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "", **fields: object) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.fields = fields

    def __str__(self) -> str:
        return f"{self.message}; {self.hint}" if self.hint else self.message


class UsageError(ResubmitError):
    """What was typed, or a file it names, can't be used as it is."""

    exit_code = 2


class ConfigError(UsageError):
    """A config with all that is wrong in it: `problems` holds one line each, file and key first."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class NothingMatched(ResubmitError):
    """The filter matched nothing, and the caller asked to hear of that."""

    exit_code = 3


class NotPermitted(ResubmitError):
    """The operating system or the service does not let this user do it."""

    exit_code = 4


class RefusedBySafety(ResubmitError):
    """A safety rule refuses; nothing was changed."""

    exit_code = 6


class NotReachable(ResubmitError):
    """A service or address did not answer."""

    exit_code = 7


class JournalError(ResubmitError):
    """The journal could not do what was asked; nothing of that call was stored, unless `stored_perhaps`."""

    stored_perhaps = False


class JournalLocked(JournalError):
    """Another process holds the journal's lock; one process writes a journal."""

    exit_code = 6


class JournalUnreadable(JournalError):
    """The journal is missing, damaged, written by a newer version, or not readable by this user."""


class JournalFull(JournalError, OSError):
    """Free disk space is below a floor; what was asked was not stored."""


class Refused(ResubmitError):
    """An intake's client gets this reply and keeps its mail.

    `code` is an SMTP reply code (RFC 5321 §4.2), `enhanced` an enhanced status code (RFC 3463).
    """

    def __init__(self, code: int, enhanced: str, text: str, **fields: object) -> None:
        super().__init__(text)
        self.fields = fields
        self.code = code
        self.enhanced = enhanced
        self.text = text
