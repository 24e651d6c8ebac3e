"""The index gives the answers of plain arithmetic, and refuses what it must."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.tolerance import rounding
from tumorxai.config import Search
from tumorxai.errors import UserError
from tumorxai.files import read_json
from tumorxai.search import embedded
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


def test_an_index_in_use_is_read_by_others_and_replaced_by_nobody(tmp_path: Path, vectors: np.ndarray) -> None:
    fill(tmp_path / "index", vectors)
    command = [sys.executable, "-c", HOLD, str(tmp_path / "index")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "open\n"
        with Index(tmp_path / "index", "one") as index:
            assert len(index) == 200
        with pytest.raises(UserError, match="another process has it open"):
            fill(tmp_path / "index", vectors, "two")
        holder.kill()
        holder.wait()
    fill(tmp_path / "index", vectors[:50], "two")  # the lock file is still there, and means nothing
    with Index(tmp_path / "index", "two") as index:
        assert len(index) == 50


def test_questions_leave_the_files_alone(tmp_path: Path, vectors: np.ndarray) -> None:
    fill(tmp_path / "index", vectors)
    files = [path for path in (tmp_path / "index").rglob("*") if path.is_file()]
    before = [path.read_bytes() for path in files]
    with Index(tmp_path / "index", "one") as index:
        index.nearest(vectors[:3], [5, 5, 5], {"label": "class 1"})
    assert [path.read_bytes() for path in files] == before
    assert len(files) == sum(path.is_file() for path in (tmp_path / "index").rglob("*"))


def test_a_read_only_index_can_be_asked(tmp_path: Path, vectors: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path / "index", vectors)
    folder = tmp_path / "index"
    for path in (*folder.rglob("*"), folder):
        path.chmod(path.stat().st_mode & 0o555)
    monkeypatch.setattr(embedded, "_writable", lambda shard: False)  # whom access bits do not bind writes anyway
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with Index(folder, "one") as index:
        assert index.nearest(vectors[:1], [1])[0][0].image_id == 5
    assert [path.name for path in tmp_path.iterdir()] == ["index"]  # the copy is gone
    for path in (folder, *folder.rglob("*")):
        path.chmod(path.stat().st_mode | 0o200)


@pytest.mark.parametrize("damage", ["about", "cases", "segment"])
def test_a_damaged_index_is_a_message(tmp_path: Path, vectors: np.ndarray, damage: str) -> None:
    fill(tmp_path / "index", vectors)
    about = tmp_path / "index" / embedded.ABOUT
    if damage == "about":
        about.write_text("{}")
    elif damage == "cases":
        about.write_text(about.read_text().replace("200", "201"))
    else:
        next((tmp_path / "index" / embedded.SHARD).rglob("segment.json")).write_text("{")
    with pytest.raises(UserError, match=r"cannot be read or has lost cases; .*dvc repro --force search"):
        Index(tmp_path / "index", "one")
    fill(tmp_path / "index", vectors)  # it is not left locked


POOR = {"m": 4, "ef_construct": 4, "ef": 1}  # a graph that finds little with so few candidates


@pytest.mark.parametrize(("kind", "hnsw"), [("none", {}), ("int8", {}), ("none", POOR), ("int8", POOR)])
def test_the_graph_finds_what_exact_search_finds(tmp_path: Path, kind: str, hnsw: dict[str, int]) -> None:
    """Enough cases for a graph; recall at 10, with filters too, for which candidates are added where they must."""
    generator = np.random.default_rng(6)
    vectors = generator.normal(size=(12_000, 256)).astype(np.float32)
    vectors += 2 * generator.normal(size=(20, 256)).astype(np.float32)[generator.integers(0, 20, len(vectors))]
    payloads = [{"label": f"class {i % 4}", "source": "", "sequence": "", "side": "train"} for i in range(12_000)]
    settings = Search.model_validate({"quantisation": {"kind": kind}, "hnsw": hnsw})
    build(tmp_path / "index", vectors, payloads, np.arange(12_000), "one", settings)
    graphs = list((tmp_path / "index").rglob("graph.bin"))
    assert graphs
    candidates = read_json(tmp_path / "index" / embedded.ABOUT)["candidates"]
    assert candidates is None or candidates > settings.hnsw.ef
    queries = vectors[:50] + generator.normal(size=(50, 256)).astype(np.float32)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    similarity = queries @ unit.T
    with Index(tmp_path / "index", "one") as index:
        for where, kept in (({}, np.arange(12_000)), ({"label": "class 1"}, np.arange(1, 12_000, 4))):
            found = index.nearest(queries, [10] * 50, where)
            best = kept[np.argsort(-similarity[:, kept], axis=1)[:, :10]]
            right = [
                len({hit.image_id for hit in row} & set(truth)) for row, truth in zip(found, best.tolist(), strict=True)
            ]
            assert np.mean(right) >= (9.8 if hnsw else 9.9)
