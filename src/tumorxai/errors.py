"""The one exception for mistakes that a user can correct, and how a command ends on it."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Callable, Iterable
from typing import NoReturn


class UserError(Exception):
    """A mistake in the input, the parameters or the surroundings.

    The message is complete in itself: what arrived, what was expected, what to do.
    """


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
    """Call ``main`` and exit: status 0, or 1 with one message and no traceback on a :class:`UserError`."""
    try:
        main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    sys.exit(0)
