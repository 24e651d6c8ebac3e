"""Images that result pages are about, kept in memory for a while under names that cannot be guessed."""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict
from dataclasses import dataclass, field

from tumorxai.run.case import Case, Prediction


@dataclass(frozen=True)
class Heat:
    """A heat-map on a page.

    Attributes:
        name: of the method, for readers.
        picture: ``data:`` address of the map to lay over the image.
        flat: whether it prefers no place.
    """

    name: str
    picture: str
    flat: bool


@dataclass
class Seen:
    """One image and what was computed of it so far.

    Attributes:
        case: the image.
        prediction: of it.
        maps: by the class that was explained.
        born: when it was kept, on the monotonic clock.
    """

    case: Case
    prediction: Prediction
    maps: dict[str, list[Heat]] = field(default_factory=dict)
    born: float = field(default_factory=time.monotonic)


class Cases:
    """The last so many of them; used from one event loop.

    Args:
        most: how many are kept.
        seconds: how long each is kept.
    """

    def __init__(self, most: int, seconds: float) -> None:
        self._most = most
        self._seconds = seconds
        self._kept: OrderedDict[str, Seen] = OrderedDict()

    def __len__(self) -> int:
        self._drop()
        return len(self._kept)

    def put(self, seen: Seen, name: str | None = None) -> str:
        """Keep one under a name, by default one of 128 random bits; returns the name."""
        name = name or secrets.token_urlsafe(16)
        self._kept[name] = seen
        self._drop()
        return name

    def get(self, name: str) -> Seen | None:
        """The one of that name, if it is still kept."""
        self._drop()
        return self._kept.get(name)

    def _drop(self) -> None:
        oldest = time.monotonic() - self._seconds
        while self._kept and (len(self._kept) > self._most or next(iter(self._kept.values())).born < oldest):
            self._kept.popitem(last=False)
