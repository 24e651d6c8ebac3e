"""Similar cases: embeddings in Qdrant, embedded or on a server, compared by cosine similarity."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import portalocker
from numpy.typing import NDArray

from tumorxai.config import Search
from tumorxai.errors import UserError
from tumorxai.files import atomic
from tumorxai.search import embedded, server
from tumorxai.search.hits import FILTERS, TIE, Cases, Hit, Where, ranked, undecided

__all__ = ["FILTERS", "TIE", "Hit", "Index", "Where", "build"]

SPARE = 8  # cases asked for beyond those wanted, to see whether the last one is tied with the next


def build(
    path: Path,
    vectors: NDArray[np.float32],
    payloads: Iterable[Mapping[str, Any]],
    ids: NDArray[np.int64],
    fingerprint: str,
    settings: Search | None = None,
) -> None:
    """Write a new index; an older one at the same place is replaced once the new one is whole.

    Args:
        path: folder to write. With a server, it says where the cases are.
        vectors: embeddings (n, d).
        payloads: what is known about each case, in the order of ``vectors``.
        ids: image_id of each case (n,).
        fingerprint: of the encoder that made the embeddings.
        settings: where the cases go (to a server, if its address is set), and how neighbours are looked for.

    Raises:
        UserError: an embedding is not finite or zero, so that it has no direction; another process has the older index
            open; the server cannot be used.
    """
    norms = np.linalg.norm(vectors, axis=1)
    if not (np.isfinite(norms) & (norms > 0)).all():
        wrong = int((~(np.isfinite(norms) & (norms > 0))).sum())
        raise UserError(
            f"got {wrong} of {len(vectors)} embeddings that are zero or not finite; expected directions to compare; "
            "the encoder has collapsed or diverged: look at the pretraining curves"
        )
    if (path / embedded.LOCK).exists():
        embedded.locked(path, portalocker.LOCK_EX).release()  # in use elsewhere? then it must not vanish
    settings = settings or Search()
    fill = server.fill if settings.url else embedded.fill
    with atomic(path) as temporary:
        fill(temporary, Cases(vectors, [dict(payload) for payload in payloads], ids, fingerprint), settings)
        if path.exists():
            shutil.rmtree(path)


class Index:
    """An index opened for questions; use it in a ``with`` block, for an open one is not replaced.

    Args:
        path: folder that :func:`build` wrote.
        fingerprint: of the encoder whose embeddings will be asked about.

    Raises:
        UserError: there is no index, it is damaged or being replaced, another encoder filled it, or the server does not
            answer or has lost it.
    """

    def __init__(self, path: Path, fingerprint: str) -> None:
        self._values: dict[str, list[str]] = {}
        if (path / server.SERVER).exists():
            self._cases: server.Remote | embedded.Embedded = server.Remote(path)
        elif (path / embedded.LOCK).exists():
            self._cases = embedded.Embedded(path)
        else:
            raise UserError(f"got no index in {path}; expected one from an earlier stage; run `dvc repro search`")
        if self._cases.encoder != fingerprint:
            self._cases.close()
            raise UserError(
                f"got an index of the encoder {self._cases.encoder[:12]} in {path}; expected {fingerprint[:12]}, since "
                "similarities across encoders mean nothing; run `dvc repro search`"
            )

    def __enter__(self) -> Index:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._cases.close()

    def __len__(self) -> int:
        return len(self._cases)

    def values(self, key: str) -> list[str]:
        """What a filter can ask for: the values of ``key`` in the index, sorted; an unknown one is ``""``.

        Args:
            key: one of :data:`FILTERS`.

        Raises:
            UserError: there is no such filter.
        """
        if key not in FILTERS:
            raise UserError(f"got the filter {key!r}; expected one of {', '.join(FILTERS)}; correct it")
        if key not in self._values:
            self._values[key] = sorted(self._cases.values(key))
        return self._values[key]

    def _wanted(self, where: Where) -> dict[str, list[str]]:
        """The values that are wanted of each key, which some case has."""
        found = {key: [wanted] if isinstance(wanted, str) else list(wanted) for key, wanted in where.items()}
        for key, wanted in found.items():
            if unknown := sorted(set(wanted) - set(self.values(key))):
                known = ", ".join(value or "(none)" for value in self.values(key))
                raise UserError(f"got the {key} {unknown[0]!r}; expected one of {known}; correct the filter")
        return found

    def nearest(
        self, queries: NDArray[np.float32], counts: Sequence[int] | NDArray[np.int64], where: Where | None = None
    ) -> list[list[Hit]]:
        """The most similar cases of each query, best first; equally similar ones by image_id.

        Args:
            queries: embeddings (n, d).
            counts: how many cases are wanted for each query, n numbers; fewer come back where fewer exist.
            where: only cases whose payload has, for each key of :data:`FILTERS` named here, the value or one of the
                values.

        Raises:
            UserError: no case has such a value, or there is no such filter.
        """
        wanted = self._wanted(where or {})
        found: list[list[Hit]] = [[] for _ in queries]
        limits = {row: int(count) + SPARE for row, count in enumerate(counts) if count > 0}
        while limits:
            answers = self._cases.ask(queries[list(limits)], list(limits.values()), wanted)
            again = {}
            for (row, limit), hits in zip(limits.items(), answers, strict=True):
                found[row] = ranked(hits)[: int(counts[row])]
                if undecided(hits, int(counts[row]), limit):
                    again[row] = 2 * limit
            limits = again
        return found
