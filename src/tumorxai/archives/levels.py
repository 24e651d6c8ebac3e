"""Which level of folders the classes were taken from, where no word tells it, and which others they may be of."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from tumorxai.archives import text
from tumorxai.archives.partners import Parts

UNTOLD = "no word tells which folders are the classes"
NAMES = 6  # of a level that are shown


def untold(
    picked: Mapping[Parts, int | None], roles: Mapping[Parts, Sequence[str]], top: int
) -> tuple[str, list[str]] | None:
    """What to say of a choice among several levels: why it was made, and the other levels with their names.

    Args:
        picked: of each folder the part that was taken for the class, where no name is a known word.
        roles: of the parts of each folder; empty for one that means nothing.
        top: number of folders that hold all images.

    Returns:
        The sentence, and a phrase for each other level that may be the classes; None where there is no other.
    """
    taken: dict[int, set[str]] = {}
    others: dict[int, set[str]] = {}
    patients = False
    for folder, place in picked.items():
        if place is None:
            continue
        taken.setdefault(place, set()).add(folder[place])
        patients |= "patient" in roles[folder][place:]
        for i in range(top, len(folder)):
            if i != place and not roles[folder][i]:
                others.setdefault(i, set()).add(folder[i])
    may = {i: names for i, names in sorted(others.items()) if len(names | taken.get(i, set())) > 1}
    if not may:
        return None
    why = "the innermost above those that look like patients" if patients else "the innermost"
    if max(may) > max(taken):
        why = "the innermost whose names do not look like ids"
    chosen = " and ".join(str(i + 1) for i in sorted(taken))
    sentence = (
        f"{UNTOLD}; those of level {chosen} were taken, {why}; the classes may "
        "as well be folders of another level: if they are, put these at the top, beside each other, or write "
        "labels.csv; other levels"
    )
    return sentence, [f"level {i + 1} ({_some(names)})" for i, names in may.items()]


def _some(names: Collection[str]) -> str:
    more = f" and {len(names) - NAMES} more" if len(names) > NAMES else ""
    return ", ".join(text.clean(name) for name in sorted(names)[:NAMES]) + more
