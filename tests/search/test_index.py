"""The index gives the answers of plain arithmetic, and refuses what it must."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.tolerance import rounding
from tumorxai.errors import UserError
from tumorxai.search.index import Index, Where, build


@pytest.fixture
def vectors() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(200, 24)).astype(np.float32)


def fill(path: Path, vectors: np.ndarray, fingerprint: str = "one") -> np.ndarray:
    ids = np.arange(len(vectors)) * 3 + 5
    build(path, vectors, [{"label": f"class {i % 4}"} for i in range(len(vectors))], ids, fingerprint)
    return ids


def test_answers_are_those_of_exact_cosine_similarity(tmp_path: Path, vectors: np.ndarray) -> None:
    ids = fill(tmp_path / "index", vectors)
    queries = np.random.default_rng(1).normal(size=(30, 24)).astype(np.float32)
    counts = np.arange(30) % 7 + 1
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    similarity = (queries / np.linalg.norm(queries, axis=1, keepdims=True)) @ unit.T
    with Index(tmp_path / "index", "one") as index:
        assert len(index) == 200
        answers = index.nearest(queries, counts)
    for row, scores, count in zip(answers, similarity, counts, strict=True):
        best = np.argsort(-scores)[:count]
        assert [hit.image_id for hit in row] == ids[best].tolist()
        np.testing.assert_allclose(
            [hit.similarity for hit in row], scores[best], atol=rounding(torch.float32, 24, stages=2)
        )
        assert [hit.payload["label"] for hit in row] == [f"class {i % 4}" for i in best]


def planted() -> tuple[np.ndarray, list[dict[str, str]], np.ndarray]:
    """300 cases, 8 of them 25 times over (so that every answer is cut within a tie), with three filters' values."""
    generator = np.random.default_rng(4)
    vectors = generator.normal(size=(300, 24)).astype(np.float32)
    vectors[:200] = np.tile(vectors[:8], (25, 1))
    order = generator.permutation(300)
    payloads = [
        {"label": f"class {i % 4}", "source": f"source {i % 3}", "sequence": ["", "T1"][i % 2], "side": "train"}
        for i in range(300)
    ]
    return vectors[order], payloads, generator.permutation(1000)[:300]


def exact(
    vectors: np.ndarray, payloads: list[dict[str, str]], ids: np.ndarray, query: np.ndarray, count: int, where: Where
) -> list[int]:
    """By plain arithmetic in float64: equal vectors have equal similarities."""
    kept = [
        i
        for i, payload in enumerate(payloads)
        if all(payload[key] in ([value] if isinstance(value, str) else value) for key, value in where.items())
    ]
    unit = vectors.astype(np.float64) / np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    similarity = [float(np.dot(unit[i], query / np.linalg.norm(query))) for i in kept]
    return [
        int(ids[i]) for s, i in sorted(zip(similarity, kept, strict=True), key=lambda pair: (-pair[0], ids[pair[1]]))
    ][:count]


FILTERED: list[Where] = [
    {},
    {"label": "class 1"},
    {"label": ["class 1", "class 3"], "source": "source 2"},
    {"sequence": "", "side": ["train"]},
    {"sequence": "T1", "label": "class 0"},  # nothing is both
]


@pytest.mark.parametrize("where", FILTERED)
def test_filters_and_ties_are_those_of_exact_arithmetic(tmp_path: Path, where: Where) -> None:
    vectors, payloads, ids = planted()
    build(tmp_path / "index", vectors, payloads, ids, "one")
    queries = np.concatenate([vectors[:20], np.random.default_rng(5).normal(size=(20, 24))]).astype(np.float32)
    counts = np.array([1, 2, 7, 30, 400] * 8)
    with Index(tmp_path / "index", "one") as index:
        answers = index.nearest(queries, counts, where)
    for query, count, row in zip(queries, counts, answers, strict=True):
        assert [hit.image_id for hit in row] == exact(vectors, payloads, ids, query, count, where)
        assert all(hit.payload == payloads[ids.tolist().index(hit.image_id)] for hit in row)


def test_the_values_of_a_filter_and_what_is_none(tmp_path: Path) -> None:
    vectors, payloads, ids = planted()
    build(tmp_path / "index", vectors, payloads, ids, "one")
    with Index(tmp_path / "index", "one") as index:
        assert index.values("source") == ["source 0", "source 1", "source 2"]
        assert index.values("sequence") == ["", "T1"]
        with pytest.raises(UserError, match=r"got the label 'gliom'; expected one of class 0, class 1"):
            index.nearest(vectors[:1], [3], {"label": ["class 1", "gliom"]})
        with pytest.raises(UserError, match=r"got the filter 'patient'; expected one of label, source"):
            index.nearest(vectors[:1], [3], {"patient": "a"})


def test_another_encoder_is_refused(tmp_path: Path, vectors: np.ndarray) -> None:
    fill(tmp_path / "index", vectors, "one")
    with pytest.raises(UserError, match=r"got an index of the encoder one .* expected two"):
        Index(tmp_path / "index", "two")
    Index(tmp_path / "index", "one").__exit__(None, None, None)  # the refusal has not left it locked


def test_a_missing_index_is_a_message_and_no_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="dvc repro search"):
        Index(tmp_path / "index", "one")
    assert not (tmp_path / "index").exists()


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
def test_an_embedding_without_a_direction_is_refused(tmp_path: Path, vectors: np.ndarray, value: float) -> None:
    vectors[7] = value
    with pytest.raises(UserError, match="1 of 200 embeddings"):
        fill(tmp_path / "index", vectors)
    assert list(tmp_path.iterdir()) == []


def test_a_new_index_replaces_the_old_one(tmp_path: Path, vectors: np.ndarray) -> None:
    fill(tmp_path / "index", vectors, "one")
    fill(tmp_path / "index", vectors[:50], "two")
    with Index(tmp_path / "index", "two") as index:
        assert len(index) == 50
    assert [path.name for path in tmp_path.iterdir()] == ["index"]


def test_the_files_hold_no_absolute_path(tmp_path: Path, vectors: np.ndarray) -> None:
    fill(tmp_path / "index", vectors)
    for path in (tmp_path / "index").rglob("*"):
        assert path.is_dir() or str(tmp_path).encode() not in path.read_bytes()


HOLD = """
import sys
from pathlib import Path
from tumorxai.search.index import Index
index = Index(Path(sys.argv[1]), "one")
print("open", flush=True)
sys.stdin.read()
"""


def test_an_index_in_use_is_a_message_and_a_killed_user_leaves_no_lock(tmp_path: Path, vectors: np.ndarray) -> None:
    fill(tmp_path / "index", vectors)
    command = [sys.executable, "-c", HOLD, str(tmp_path / "index")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "open\n"
        with pytest.raises(UserError, match="another process has it open"):
            Index(tmp_path / "index", "one")
        with pytest.raises(UserError, match="another process has it open"):
            fill(tmp_path / "index", vectors, "two")
        holder.kill()
        holder.wait()
    with Index(tmp_path / "index", "one") as index:  # the lock file is still there, and means nothing
        assert len(index) == 200
