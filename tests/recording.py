"""A recorded step where there is no GPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor


def again(work: Callable[[], Any], stream: Any) -> Callable[[], Any]:
    """As a graph behaves, on any device: each replay does the work anew and writes over what the last one found."""
    first: list[Any] = []

    def write(old: Any, new: Any) -> None:
        if isinstance(old, Tensor):
            old.copy_(new)
        elif isinstance(old, dict):
            assert old.keys() == new.keys()
            write(list(old.values()), list(new.values()))
        elif old is not None:
            for one, other in zip(old, new, strict=True):
                write(one, other)

    def replay() -> Any:
        found = work()
        if not first:
            first.append(found)
        else:
            write(first[0], found)
        return first[0]

    return replay
