"""Everything an edit can end with, other than pictures.

FireRedError
├── InputError          something the artist typed or connected
├── SetupError          something this machine lacks
│   ├── MissingPackageError
│   ├── MissingModelError
│   ├── BrokenModelError
│   ├── DownloadError
│   ├── JournalError
│   └── MissingKeyError
├── CostError           the edit would cost more than allowed
├── RemoteError         fal refused, failed or could not be reached; what was ordered stays ordered
│   ├── RejectedError   fal refused the request as it stands
│   ├── AccountError    fal refused the key or the account behind it
│   ├── JobFailedError  the job came to its end without a picture
│   ├── JobGoneError    fal does not know the job, or no longer
│   ├── UncertainError  fal may have accepted the edit, and nobody can say yet
│   ├── UncollectedError    an earlier edit like this one waits to be collected
│   └── RemoteTimeoutError
└── ResultError         an answer came, but it is not a picture to show
    └── FlaggedError    the safety checker withheld it

EditCancelled           the artist pressed Cancel: not an error
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

MAX_LENGTH = 300
"""Characters an artist sees of any error."""

_DATA_URI = re.compile(r"data:[^,\s]{0,200},\S*")


class FireRedError(Exception):
    """A failure in two parts: what happened, and what to do next.

    ``str()`` of it is at most ``MAX_LENGTH`` characters and never holds a data URI. What happened
    is shortened first, so that the advice stays readable.
    """

    __module__ = "firered_edit"

    def __init_subclass__(cls) -> None:
        # ComfyUI names a pack's modules by their path on disk, and its error report shows it.
        cls.__module__ = FireRedError.__module__

    def __init__(self, problem: str, remedy: str) -> None:
        self.problem = clean(problem, MAX_LENGTH - len(remedy))
        self.remedy = remedy
        super().__init__(f"{self.problem} {remedy}")

    def about(self, subject: str) -> None:
        """Put ``subject`` before what happened: the error was raised where it is not known."""
        self.problem = clean(f"{subject}: {self.problem}", MAX_LENGTH - len(self.remedy))
        self.args = (f"{self.problem} {self.remedy}",)


class InputError(FireRedError):
    """An input is missing, out of range or names something that is not there."""


class SetupError(FireRedError):
    """This machine lacks something the edit needs."""


class MissingPackageError(SetupError):
    """A Python package is not installed."""

    @classmethod
    @contextmanager
    def named(cls) -> Iterator[None]:
        """Within the context, where a part of the pack is imported, what is missing is named."""
        try:
            yield
        except ImportError as error:
            raise cls(
                f"The Python package {error.name} is not installed.",
                "Install this pack's requirements.txt and restart ComfyUI.",
            ) from error


class MissingModelError(SetupError):
    """A model folder or one of its files is not there."""


class BrokenModelError(SetupError):
    """Model files are there but damaged or of another family."""


class DownloadError(SetupError):
    """A model could not be fetched from the hub."""


class JournalError(SetupError):
    """The journal of paid edits cannot be read or written."""


class MissingKeyError(SetupError):
    """No fal key was found."""


class CostError(FireRedError):
    """The edit's estimated price is above the limit the artist set."""


class RemoteError(FireRedError):
    """fal could not be reached, refused, or failed while working.

    ``units`` are those that fal billed for it, None where it does not say.
    """

    units: float | None = None


class RejectedError(RemoteError):
    """fal refused the request as it stands; sending it again will not help."""


class AccountError(RemoteError):
    """fal does not know the key, or its account is locked or out of credit.

    Says nothing about a job that was accepted before: that can still be collected.
    """


class JobFailedError(RemoteError):
    """The job has come to its end without a picture; fal does not bill that.

    ``error_type`` is fal's own word for the reason, such as ``runner_disconnected``.
    """

    error_type = ""


class JobGoneError(RemoteError):
    """fal does not know the job: it was cancelled in the queue, or its result has expired."""


class UncertainError(RemoteError):
    """The edit was sent and no answer came: fal may have accepted it, and may bill it."""


class UncollectedError(RemoteError):
    """An earlier edit that differs in its seed alone is unfinished, or was never delivered."""


class RemoteTimeoutError(RemoteError):
    """fal accepted the job but did not finish it in time."""


class ResultError(FireRedError):
    """The result is not a picture: NaN, all black, empty, or not decodable."""


class FlaggedError(ResultError):
    """fal's safety checker withheld every picture."""


class EditCancelled(Exception):  # noqa: N818 - a cancel is not an error
    """The artist cancelled. Raised at the next safe point, with nothing left half done."""


def clean(text: str, length: int = MAX_LENGTH) -> str:
    """``text`` fit to be shown: no data URI, white space folded, cut at ``length`` characters."""
    folded = " ".join(_DATA_URI.sub("(picture data)", text).split())
    return folded if len(folded) < length else folded[: max(length - 2, 0)] + "…"
