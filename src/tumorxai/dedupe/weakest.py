"""Why a group of copies is as large as it is: the link at which it would fall apart first."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import minimum_spanning_tree

from tumorxai.dedupe.candidates import components
from tumorxai.dedupe.registration import Index


def weakest_link(pairs: pd.DataFrame, group: Index, name: int) -> dict[str, Any]:
    """The weakest pair of those that hold a group together, and the two parts that it joins.

    Single link joins a group by the edges of its maximum spanning tree; without one of these the group falls into two.
    Named is the weakest that parts off a tenth of the group or more, if there is one: to lose a single image explains
    nothing. Of equally weak ones, that which parts the group most evenly.

    Args:
        pairs: ``image_a``, ``image_b`` and ``correlation`` of all copies.
        group: of N images.
        name: of a group of two images or more.

    Returns:
        ``image_a``, ``image_b``, ``correlation`` and ``parts``, the sizes of a's part and of b's.
    """
    members = np.flatnonzero(group == name)
    own = pairs[group[pairs["image_a"]] == name]
    a, b = (np.searchsorted(members, own[side]) for side in ("image_a", "image_b"))
    strong = own["correlation"].fillna(1.0).to_numpy()  # unconfirmed pairs have none
    tree = minimum_spanning_tree(coo_array((2.0 - strong, (a, b)), shape=(len(members),) * 2)).tocoo()
    weight = tree.data.round(6)
    best, edge, one = (False, -np.inf, -1), 0, 0
    for number in np.argsort(-weight, kind="stable"):
        if best[0] and weight[number] < best[1]:
            break
        rest = np.arange(len(weight)) != number
        part = components(len(members), tree.row[rest], tree.col[rest])
        size = int((part == part[tree.row[number]]).sum())
        smaller = min(size, len(members) - size)
        worth = smaller >= len(members) / 10, float(weight[number]), smaller
        if worth > best:
            best, edge, one = worth, int(number), size
    ends = sorted([(int(members[tree.row[edge]]), one), (int(members[tree.col[edge]]), len(members) - one)])
    return {
        "image_a": ends[0][0],
        "image_b": ends[1][0],
        "correlation": round(float(2.0 - weight[edge]), 4),
        "parts": [ends[0][1], ends[1][1]],
    }
