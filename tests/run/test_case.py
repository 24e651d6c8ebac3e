"""A finished run answers about one image, and refuses what it must."""

from __future__ import annotations

import io
import json
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import portalocker
import pytest
import torch
from PIL import Image

from tests.tolerance import TEST_RESNET, rounding
from tumorxai.archives.archives import UnreadableError
from tumorxai.base.predictions import Predictions
from tumorxai.dedupe import hashing
from tumorxai.errors import UserError
from tumorxai.files import read_json, sha256, write_json
from tumorxai.networks import embed, encoders
from tumorxai.result import calibration
from tumorxai.robustness import foreign
from tumorxai.run import decode
from tumorxai.run.case import Case, Workspace
from tumorxai.search import embedded

LOGIT = 10.0  # size of the largest; a probability moves by less than its logit does


def png(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def test_probabilities_are_the_kept_ones_at_the_fitted_temperature(workspace: Workspace) -> None:
    kept = Predictions.read(workspace.root / "models" / "predictions_finetune.csv")
    heat = read_json(workspace.root / "details" / "calibration.json")["finetune"]["temperature"]
    assert heat == pytest.approx(calibration.temperature(kept.on("validation")), rel=1e-4)
    for place in (0, 40, 110):
        found = workspace.predict(workspace.case(place))
        wanted = calibration.rescaled(kept.probabilities[place : place + 1], heat)[0]
        assert list(found.probabilities) == list(workspace.classes) == list(kept.classes)
        np.testing.assert_allclose(list(found.probabilities.values()), wanted, atol=LOGIT * TEST_RESNET / min(heat, 1))
        assert found.predicted == kept.classes[wanted.argmax()]


def test_an_image_file_is_what_the_pack_holds(workspace: Workspace) -> None:
    for place in (0, 100):
        got = workspace.read(workspace.thumbnail(place))
        np.testing.assert_array_equal(got.pixels, workspace.dataset.images[place])
        assert workspace.predict(got).probabilities == workspace.predict(workspace.case(place)).probabilities


def test_distance_is_that_of_the_robustness_stage(workspace: Workspace) -> None:
    vectors = np.array(workspace.embeddings)
    train = vectors[workspace.dataset.indices(("train", "unlabelled"))]
    k = workspace.params.foreign.neighbours
    own = foreign.distances(vectors[workspace.dataset.indices("validation")], train, k)
    found = workspace.predict(workspace.case(110))
    query = workspace.embedding(workspace.case(110))
    np.testing.assert_allclose(query[0], vectors[110], atol=TEST_RESNET * float(np.abs(vectors).max()))
    expected = foreign.distances(query, train, k)[0]
    close = rounding(torch.float32, vectors.shape[1], stages=2)  # of the cosine, of which a distance is the root
    assert found.distance == pytest.approx(expected, abs=close / expected)
    assert found.threshold == pytest.approx(np.quantile(own, 0.99))
    one = 100 / len(own)  # of the validation side may be as far, but for rounding
    assert found.percentile == pytest.approx(100 * (own <= found.distance).mean(), abs=1.01 * one)
    assert not found.unlike


def test_an_image_of_another_kind_is_told(workspace: Workspace) -> None:
    y, x = np.mgrid[:90, :90]
    stripes = workspace.read(png((127 * (1 + np.sin(x + 2 * y))).astype(np.uint8)))
    found = workspace.predict(stripes)
    assert found.unlike
    assert found.percentile == 100
    assert found.copy_of is None


def test_without_a_validation_side_nothing_is_called_unlike(finished: Path, tmp_path: Path) -> None:
    root = tmp_path / "run"
    shutil.copytree(finished, root)
    split = root / "data" / "split.csv"
    split.write_text(split.read_text().replace("validation", "dropped"))
    for name in ("encoder", "finetuned"):  # as if they had been trained on these sides
        card = root / "models" / f"{name}.json"
        write_json(card, read_json(card) | {"data": {"split.csv": sha256(split)}})
    found = (opened := Workspace.open(root)).predict(opened.case(0))
    assert (found.threshold, found.percentile, found.unlike) == (None, None, False)


@pytest.mark.parametrize(
    ("change", "orientation"),
    [
        (lambda pixels: pixels, "as is"),
        (lambda pixels: pixels[::-1], "upside down"),
        (lambda pixels: np.rot90(pixels), "rotated by 90 clockwise"),  # what turns it back
    ],
)
def test_a_copy_is_found_in_any_orientation(
    workspace: Workspace, change: Callable[[np.ndarray], np.ndarray], orientation: str
) -> None:
    pixels = np.ascontiguousarray(change(workspace.dataset.images[100, 0]))
    found = workspace.predict(workspace.read(png(pixels))).copy_of
    assert found is not None
    assert (found.image_id, found.side, found.orientation) == (100, "test", orientation)
    assert found.correlation > 0.99


def test_an_image_of_the_pack_is_no_copy_of_itself(workspace: Workspace) -> None:
    assert workspace.predict(workspace.case(100)).copy_of is None
    found = workspace.predict(workspace.case(66)).copy_of
    assert found is not None
    assert (found.image_id, found.orientation) == (69, "mirrored")


def test_heat_maps_follow_the_class(workspace: Workspace) -> None:
    own = workspace.case(3)
    said = workspace.predict(own).predicted
    free = workspace.explain(own, ["grad_cam", "occlusion"])
    assert {name: (heat.shape, heat.dtype) for name, heat in free.items()} == {
        "grad_cam": ((32, 32), np.float32),
        "occlusion": ((32, 32), np.float32),
    }
    np.testing.assert_array_equal(workspace.explain(own, ["occlusion"], said)["occlusion"], free["occlusion"])
    other = next(name for name in workspace.classes if name != said)
    assert not np.array_equal(workspace.explain(own, ["occlusion"], other)["occlusion"], free["occlusion"])
    with pytest.raises(UserError, match=r"got the class 'rign'; expected one of .*did you mean ring\?"):
        workspace.explain(own, ["grad_cam"], "rign")


def test_similar_cases_are_those_of_plain_arithmetic(workspace: Workspace) -> None:
    own = workspace.case(110)
    database = workspace.embeddings[: 72 + 24]  # of the training and the validation side
    unit = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (database, workspace.embedding(own))]
    similarity = unit[0] @ unit[1][0]
    close = rounding(torch.float32, len(unit[1][0]), stages=2)  # so near, two cases may change places
    best = np.argsort(-similarity)
    rings = np.array([i for i in best if i % 3 == 1 and i % 2])
    hits = workspace.search(own, 5)
    of_rings = workspace.search(own, 4, label="ring", sequence="T2", source="toy")
    for found, wanted in ((hits, best[:5]), (of_rings, rings[:4])):
        ids = [hit.image_id for hit in found]
        assert len(set(ids)) == len(wanted)
        np.testing.assert_allclose(similarity[ids], similarity[wanted], atol=close)
    assert {hit.image_id for hit in of_rings} <= set(rings)


def test_copies_and_the_patient_are_left_out(workspace: Workspace) -> None:
    own = workspace.case(66)
    assert workspace.related(own) == {66, 67, 68, 69, 70, 71}
    everything = {hit.image_id for hit in workspace.search(own, 1000)}
    assert everything == set(range(96)) - workspace.related(own)
    with_kin = [hit.image_id for hit in workspace.search(own, 1000, exclude_copies=False)]
    assert set(with_kin) == set(range(96)) - {66}
    upload = workspace.read(png(workspace.dataset.images[66, 0]))
    assert {hit.image_id for hit in workspace.search(upload, 1000)} == everything
    assert workspace.search(upload, 1, exclude_copies=False)[0].image_id == 66


@pytest.mark.parametrize(
    ("filters", "message"),
    [
        ({"label": "dis"}, r"got the class 'dis'; expected one of bar, disc, ring; did you mean disc\?"),
        ({"source": "tooy"}, r"got the source 'tooy'; expected one of toy"),
        ({"sequence": "FLAIR"}, r"got the sequence 'FLAIR'; expected one of T1, T2"),
    ],
)
def test_a_filter_that_nothing_fits_is_refused(workspace: Workspace, filters: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        workspace.search(workspace.case(0), 5, **filters)


def test_many_threads_get_the_answers_of_one(workspace: Workspace) -> None:
    places = [5, 30, 66, 101]

    def ask(place: int) -> tuple[object, ...]:
        own = workspace.case(place)
        heat = workspace.explain(own, ["grad_cam"])["grad_cam"]
        hits = [hit.image_id for hit in workspace.search(own, 3)]
        return workspace.predict(own).predicted, hits, heat.tobytes()

    alone = {place: ask(place) for place in places}
    together: list[tuple[int, tuple[object, ...]]] = []
    threads = [threading.Thread(target=lambda p=place: together.append((p, ask(p)))) for place in places * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(together) == len(threads)
    assert all(alone[place] == answer for place, answer in together)


def bomb() -> bytes:
    """Few bytes that would become many pixels."""
    stream = io.BytesIO()
    Image.new("1", (9000, 9000)).save(stream, "PNG")
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty, 0 bytes"),
        (b"patient,label\n1,glioma\n", "no image of a known format"),
        (bomb(), "9000 x 9000 pixels; at most"),
        (png(np.zeros((4, 4), dtype=np.uint8)), "at least 16 x 16"),
        (png(np.arange(4096, dtype=np.uint8).reshape(64, 64))[:60], "cannot be decoded"),
        (bytes(decode.MAX_BYTES + 1), r"33554433 bytes; at most 33554432"),
    ],
    ids=["nothing", "text", "bomb", "tiny", "cut", "large"],
)
def test_bad_files_are_refused(workspace: Workspace, content: bytes, message: str) -> None:
    with pytest.raises(UnreadableError, match=message):
        workspace.read(content)


def test_an_image_that_is_not_there_is_refused(workspace: Workspace) -> None:
    for place in (-1, 120):
        with pytest.raises(UserError, match=f"got the image {place}; expected one of 0 to 119"):
            workspace.case(place)


@pytest.mark.parametrize(
    ("lost", "advice"),
    [
        ("params.yaml", "run from the project's folder"),
        ("models/finetuned.safetensors", "dvc repro finetune"),
        ("models/encoder.safetensors", "dvc repro pretrain"),
        ("models/embeddings.npy", "dvc repro embed"),
        ("details/calibration.json", "dvc repro scores"),
        ("data/pack.npy", "dvc repro"),
    ],
)
def test_what_is_missing_is_named(finished: Path, tmp_path: Path, lost: str, advice: str) -> None:
    root = tmp_path / "run"
    shutil.copytree(finished, root)
    (root / lost).unlink()
    with pytest.raises(UserError, match=advice):
        Workspace.open(root)


def test_files_of_different_runs_are_refused(finished: Path, tmp_path: Path) -> None:
    root = tmp_path / "run"
    shutil.copytree(finished, root)
    card = root / "models" / "finetuned.json"
    own = card.read_text()
    write_json(card, json.loads(own) | {"classes": ["a", "b", "c"]})
    with pytest.raises(UserError, match="expected those of one run"):
        Workspace.open(root)
    card.write_text(own)

    with Workspace.open(root).index:  # as it should be
        pass
    encoder, described = encoders.load(root / "models" / "encoder.safetensors")
    torch.manual_seed(1)
    other = {
        name: torch.randn_like(value) if value.is_floating_point() and value.ndim > 1 else value
        for name, value in encoder.state_dict().items()
    }
    encoders.save(other, root / "models" / "encoder.safetensors", described)
    with pytest.raises(UserError, match="got embeddings of another encoder"):
        Workspace.open(root)


def test_an_index_of_another_encoder_is_refused_when_it_is_asked(finished: Path, tmp_path: Path) -> None:
    root = tmp_path / "run"
    shutil.copytree(finished, root)
    encoder, described = encoders.load(root / "models" / "encoder.safetensors")
    state = encoder.state_dict()
    name = next(name for name, value in state.items() if value.ndim == 4)
    state[name] = state[name] * 1.0001  # hardly another one, and yet not the one that filled the index
    encoders.save(state, root / "models" / "encoder.safetensors", described)
    embed.run(root / "data" / "pack.npy", root / "models" / "encoder.safetensors", root / "models" / "embeddings.npy")
    opened = Workspace.open(root)
    opened.predict(opened.case(0))
    with pytest.raises(UserError, match="similarities across encoders mean nothing"):
        opened.search(opened.case(0), 3)


def test_an_index_has_many_readers_and_is_free_after_they_are_closed(finished: Path) -> None:
    one, other = Workspace.open(finished), Workspace.open(finished)
    assert one.search(one.case(0), 1) == other.search(other.case(0), 1)
    index = finished / "models" / "index"
    one.close()
    with pytest.raises(UserError, match="another process has it open"):
        embedded.locked(index, portalocker.LOCK_EX)
    other.close()
    embedded.locked(index, portalocker.LOCK_EX).release()


def test_a_case_keeps_its_pixels(workspace: Workspace) -> None:
    with Image.open(io.BytesIO(workspace.thumbnail(7))) as image:
        np.testing.assert_array_equal(np.asarray(image), workspace.dataset.images[7, 0])
    colour = Case(np.zeros((3, 20, 20), dtype=np.uint8), hashing.shrink(Image.new("L", (20, 20))))
    with Image.open(io.BytesIO(colour.png())) as image:
        assert image.mode == "RGB"


def test_a_copy_is_looked_for_and_an_image_embedded_once(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    case = workspace.read(png(workspace.dataset.images[100, 0]))
    asked: list[object] = []
    find = workspace.lookup.find
    monkeypatch.setattr(workspace.lookup, "find", lambda *given: asked.append(given) or find(*given))
    embedded: list[object] = []
    handle = workspace.encoder.register_forward_hook(lambda *given: embedded.append(given))
    said = workspace.predict(case).copy_of
    assert said is not None
    assert said.image_id in workspace.related(case)
    assert len(workspace.search(case, 3)) == 3
    handle.remove()
    assert len(asked) == len(embedded) == 1
