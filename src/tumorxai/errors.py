"""The one exception for mistakes that a user can correct, and how a command ends on it."""

from __future__ import annotations

import difflib
import errno
import os
import sys
from collections.abc import Callable, Iterable
from typing import NoReturn


class UserError(Exception):
    """A mistake in the input, the parameters or the surroundings.

    The message is complete in itself: what arrived, what was expected, what to do.
    """


class MissingError(UserError, FileNotFoundError):
    """A file of the run that is not there."""


class ChangedError(UserError):
    """A file that was read from is no longer as it was."""


class DamagedError(UserError, ValueError):
    """A file of the run that holds something else than what was written there."""


# What the system refuses, and what helps. Libraries pass its words on in errors of their own.
REMEDIES = {
    errno.ENOSPC: "free some space on that disk and run again",
    errno.EDQUOT: "free some of your quota and run again",
    errno.EFBIG: "raise the limit of a file's size (`ulimit -f`) and run again",
    errno.EROFS: "run in a copy of the folder that can be written to",
    errno.EACCES: "correct the permissions and run again",
    errno.EPERM: "correct the permissions and run again",
    errno.EMFILE: "raise the limit of open files (`ulimit -n`) and run again",
    errno.EIO: "look at the disk, copy what is on it, and run again",
}
# The same of SQLite, in which DVC keeps its state: by its names of errors, which may go on after an underscore.
DATABASES = {
    "SQLITE_FULL": errno.ENOSPC,
    "SQLITE_READONLY": errno.EROFS,
    "SQLITE_CANTOPEN": errno.EACCES,
    "SQLITE_IOERR": errno.ENOSPC,  # what it says as well when a file may not grow
}
IN_OTHER_WORDS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EMFILE)
NO_MEMORY = ("OutOfMemoryError", "not enough memory", "annot allocate memory", "can't allocate memory")


def told(error: BaseException) -> UserError | None:
    """An error of the system, in our words; None for any other, which is a mistake of ours and keeps its traceback.

    Args:
        error: what ended a command. Its first note, if there is one, says which file was being written.
    """
    if isinstance(error, UserError):
        return error
    note = next(iter(getattr(error, "__notes__", [])), "")
    said = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
    if isinstance(error, MemoryError) or any(word in f"{type(error).__name__} {said}" for word in NO_MEMORY):
        return UserError(
            f"got too little memory ({said}); expected enough for the images and the network; end other programs, "
            "lower batch_size or data.image_size, or take a larger machine"
        )
    if isinstance(error, OSError) and not isinstance(error, BrokenPipeError):
        where = note or error.filename
        what = f"{where}: " if where else ""
        remedy = REMEDIES.get(error.errno or 0, "look at that file, its disk and its permissions, and run again")
        return UserError(f"{what}got {error.strerror or said}; expected to be able to read and write there; {remedy}")
    database = getattr(error, "sqlite_errorname", "")
    numbers = [number for name, number in DATABASES.items() if database.startswith(name)]
    numbers += [number for number in IN_OTHER_WORDS if os.strerror(number) in str(error)]
    if numbers:
        what = f"{note}: " if note else "a database of DVC's: " if database else ""
        return UserError(f"{what}got {said}; expected to be able to read and write there; {REMEDIES[numbers[0]]}")
    return None


def known(kind: str, name: str, names: Iterable[str]) -> str:
    """The name, if it is one of ``names``.

    Raises:
        UserError: it is not; the message suggests the one that is spelt alike.
    """
    every = list(names)
    if name not in every:
        near = difflib.get_close_matches(name, every, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise UserError(f"got the {kind} {name!r}; expected one of {', '.join(every) or 'none'}{hint}")
    return name


def run(main: Callable[[], None]) -> NoReturn:
    """Call ``main`` and exit.

    The status is 0; 1 with one message and no traceback for an error that :func:`told` knows; 130 after Ctrl-C.
    """
    try:
        main()
    except KeyboardInterrupt:
        print("error: stopped by Ctrl-C; run again to go on", file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        if (own := told(error)) is None:
            raise
        print(f"error: {own}", file=sys.stderr)
        sys.exit(1)
    sys.exit(0)
