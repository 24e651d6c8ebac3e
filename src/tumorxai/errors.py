"""The one exception for mistakes that a user can correct, and how a command ends on it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import NoReturn


class UserError(Exception):
    """A mistake in the input, the parameters or the surroundings.

    The message is complete in itself: what was got, what was expected, what to do.
    """


def run(main: Callable[[], None]) -> NoReturn:
    """Call ``main`` and exit: status 0, or 1 with one message and no traceback on a :class:`UserError`."""
    try:
        main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    sys.exit(0)
