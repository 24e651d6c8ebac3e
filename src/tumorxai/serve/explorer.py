"""What the explorer shows of a run's data: a map of the embeddings, copies, unreadable files, suspected labels."""

from __future__ import annotations

import contextlib
import hashlib
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

from tumorxai.base.dataset import Dataset, read_pairs
from tumorxai.errors import UserError
from tumorxai.files import read_array, read_csv, reading, write_array
from tumorxai.inputs import unfinished

COLOURS = {"label": "class", "source": "source", "side": "side of the split", "sequence": "sequence"}
CACHE = Path(".tumorxai/serve")
SEED = 0
COMPONENTS = 50  # principal components that t-SNE starts from, as its authors do (JMLR 9:2579, section 4.2)
PERPLEXITY = 30.0
LEAST = 12  # images; fewer have no neighbourhoods to keep


Floats = NDArray[np.float32]


def components(vectors: Floats) -> Floats:
    """The first principal components (n, at most COMPONENTS) of the directions of embeddings (n, d)."""
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    reduced: Floats = PCA(min(COMPONENTS, *unit.shape), random_state=SEED).fit_transform(unit)
    return reduced


def neighbourhoods(reduced: Floats) -> Floats:
    """t-SNE of rows (n, k): places (n, 2) at which neighbours stay near each other."""
    perplexity = min(PERPLEXITY, (len(reduced) - 1) / 3)
    places: Floats = TSNE(perplexity=perplexity, init="pca", random_state=SEED).fit_transform(reduced)
    return places


def stretched(places: Floats) -> Floats:
    """The first two columns, each stretched to [0, 1]; a missing second one is 0."""
    flat = np.zeros((len(places), 2), dtype=np.float32)
    flat[:, : min(2, places.shape[1])] = places[:, :2]
    low, high = flat.min(axis=0), flat.max(axis=0)
    return np.asarray((flat - low) / np.maximum(high - low, 1e-12), dtype=np.float32)


@dataclass(frozen=True)
class Map:
    """Places of images on a plane.

    Attributes:
        ids: the images drawn (n,), ascending.
        places: (n, 2) in [0, 1].
        total: how many images there are to draw.
        kind: how the places were found.
    """

    ids: NDArray[np.int64]
    places: Floats
    total: int
    kind: Literal["t-SNE", "principal components"]


@dataclass(frozen=True)
class Copies:
    """A group of images that are copies of each other.

    Attributes:
        group: its number.
        ids: of its images.
        labels: of its images, as published.
        sides: on which they are.
        kinds: of the pairs found among them, such as ``exact``.
    """

    group: int
    ids: list[int]
    labels: list[str]
    sides: list[str]
    kinds: list[str]


def _rows(path: Path, *columns: str) -> list[dict[str, Any]]:
    """A table that an earlier stage may not have left."""
    if not path.exists():
        return []
    table = read_csv(path, *columns, dtype=str, keep_default_na=False)
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]


class Explorer:
    """Tables of a run, read once: the run may be replaced while they are shown.

    Args:
        root: folder of the run.
        dataset: its images.
        embeddings: of all of them (N, d).
        most: images drawn on the map; of more a random part is drawn.

    Attributes:
        copies: groups of several images, those across the sides first, then the largest.
        quarantine: files that could not be read, with the reason.
        suspects: images whose label is likely wrong, the least likely label first.
    """

    def __init__(self, root: Path, dataset: Dataset, embeddings: Floats, most: int) -> None:
        self._root = root
        self._dataset = dataset
        self._embeddings = embeddings
        pairs, suspects = root / "data" / "pairs.csv", root / "models" / "suspects.csv"
        self.copies = self._copies(read_pairs(pairs, len(dataset.table), "kind") if pairs.exists() else pd.DataFrame())
        self.quarantine = _rows(root / "data" / "quarantine.csv", "source", "path", "reason")
        numbers = {"image_id": int, "group": int, "p_label": float, "p_suggested": float}
        found = _rows(suspects, *numbers, "label", "suggested")
        with reading(suspects, "a table of images and probabilities"):
            self.suspects = [row | {name: kind(row[name]) for name, kind in numbers.items()} for row in found]
            if not all(0 <= row["image_id"] < len(dataset.table) for row in self.suspects):
                raise ValueError("an image that the pack does not have")
        self._most = most
        self._drawing = threading.Lock()
        self._map: Map | None = None

    @property
    def table(self) -> pd.DataFrame:
        """The images' table, see :class:`Dataset`."""
        return self._dataset.table

    def values(self, column: str) -> list[str]:
        """Names that occur in a column of the table, sorted, without the empty one."""
        return sorted(set(self.table[column]) - {""})

    def map(self) -> Map:
        """The map of all sides.

        t-SNE takes seconds to minutes, once: it is computed in the background and then kept in ``.tumorxai/``. Until it
        is there the answer is a map of principal components.
        """
        with self._drawing:
            if self._map is None:
                self._map = self._draw()
            return self._map

    def _draw(self) -> Map:
        every = np.flatnonzero(self.table["side"].to_numpy() != "dropped")
        ids = np.sort(np.random.default_rng(SEED).permutation(every)[: self._most])
        chosen = np.asarray(self._embeddings[ids], dtype=np.float32)
        content = hashlib.sha256(chosen.tobytes() + ids.tobytes()).hexdigest()
        name = unfinished.fingerprint(unfinished.causes(__name__, content=content))
        kept = self._root / CACHE / f"map-{name}.npy"
        if kept.exists():
            with contextlib.suppress(UserError):  # one that is damaged is drawn anew
                places = np.asarray(read_array(kept, shape=(len(ids), 2)))
                return Map(ids, places, len(every), "t-SNE")
        reduced = components(chosen)
        if len(reduced) >= LEAST:
            threading.Thread(target=self._refine, args=(ids, reduced, len(every), kept), daemon=True).start()
        return Map(ids, stretched(reduced), len(every), "principal components")

    def _refine(self, ids: NDArray[np.int64], reduced: Floats, total: int, kept: Path) -> None:
        places = stretched(neighbourhoods(reduced))
        with contextlib.suppress(OSError):  # a run that may only be read is drawn anew at every start
            write_array(kept, places)
            for old in set(kept.parent.glob("map-*.npy")) - {kept}:  # of other embeddings, or drawn by other code
                old.unlink(missing_ok=True)
        with self._drawing:
            self._map = Map(ids, places, total, "t-SNE")

    def _copies(self, pairs: pd.DataFrame) -> list[Copies]:
        table = self.table
        several = table[table["group"].map(table["group"].value_counts()) > 1]
        group_of = table["group"].to_numpy()
        kinds: dict[int, set[str]] = {}
        for pair in pairs.to_dict("records"):
            kinds.setdefault(int(group_of[int(pair["image_a"])]), set()).add(pair["kind"])
        found = []
        for number, own in several.groupby("group"):
            group = int(str(number))
            labels, sides = sorted(set(own["native_label"])), sorted(set(own["side"]))
            found.append(Copies(group, own.index.tolist(), labels, sides, sorted(kinds.get(group, set()))))
        return sorted(found, key=lambda each: (-len(each.sides), -len(each.ids), each.group))
