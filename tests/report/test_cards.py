"""The cards and the checklist: the Hub reads them, no gap is left, and every number is the measured one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from huggingface_hub import DatasetCard, ModelCard

from tests.report.world import CLASSES, HOSTILE, changed, world
from tumorxai import config
from tumorxai.base.glossary import HEAD, PARTS, shown
from tumorxai.files import read_json, write_json
from tumorxai.report import cards, claim, facts, page, words

NAMES = ("model_card.md", "dataset_card.md", "claim.md")


def write(root: Path, params: config.Params) -> dict[str, str]:
    cards.render(root / "report", facts.gather(root, params))
    return {name: (root / "report" / name).read_text(encoding="utf-8") for name in NAMES}


def header(text: str) -> dict[str, object]:
    found: dict[str, object] = yaml.safe_load(text.split("---\n")[1])
    return found


@pytest.mark.parametrize("complete", [True, False])
def test_no_gap_is_left(tmp_path: Path, params: config.Params, complete: bool) -> None:
    root = world(tmp_path) if complete else tmp_path
    for name, text in write(root, params).items():
        for gap in ("{{", "{%", "None", "nan", "TODO", "More Information Needed", "Undefined"):
            assert gap not in text, (name, gap)
        assert "not for diagnosis" in " ".join(text.split()), name
        assert text.endswith("\n"), name


def test_the_hub_reads_the_model_card(tmp_path: Path, params: config.Params) -> None:
    root = world(tmp_path)
    card = ModelCard(write(root, params)["model_card.md"])
    assert card.data.license == "other"  # the phantom's: nothing is given away that its template does not allow
    assert card.data.model_name == f"tumorxai-{params.method}-{params.model.backbone}"
    found = {(result.metric_name, result.metric_value) for result in card.data.eval_results}
    for name, title in facts.HEADLINES.items():
        test = read_json(root / "details" / f"{name}.json")["test"]
        for score in shown(HEAD):
            assert (f"{score} on the test side, {title}", round(test[score]["value"], 4)) in found
    assert len(found) == len(facts.HEADLINES) * len(shown(HEAD))


def test_the_hub_reads_the_dataset_card(tmp_path: Path, params: config.Params) -> None:
    root = world(tmp_path)
    text = write(root, params)["dataset_card.md"]
    card = DatasetCard(text)
    assert card.data.size_categories == ["1K<n<10K"]
    sides = read_json(root / "details" / "split.json")["sides"]
    assert card.data.to_dict()["dataset_info"]["splits"] == [
        {"name": name, "num_examples": sides[name]["images"]} for name in ("train", "validation", "test")
    ]
    for label in CLASSES:
        counts = [sides[name]["classes"][label] for name in ("train", "validation", "test")]
        assert f"| {label} | {' | '.join(map(str, counts))} | 1 |" in text  # one of each class was dropped
    dedupe = read_json(root / "details" / "dedupe.json")
    assert f"{dedupe['exact_pairs']} pairs with equal pixels, {dedupe['near_pairs']} more" in text


def test_every_score_in_the_model_card_is_the_measured_one(tmp_path: Path, params: config.Params) -> None:
    root = world(tmp_path)
    text = write(root, params)["model_card.md"]
    for name, title in facts.MODELS.items():
        test = read_json(root / "details" / f"{name}.json")["test"]
        row = " | ".join(words.estimate(own, test[key]) for key, own in shown(PARTS).items())
        assert f"| {title} | {row} |" in text


def test_names_from_the_data_stay_text(tmp_path: Path, params: config.Params) -> None:
    for text in write(world(tmp_path, classes=[HOSTILE, "a|b", "[x](y)", "d"]), params).values():
        assert "<script>" not in text
        assert "(y)" not in text.replace(r"\[x\](y)", "")
        assert "| a|b" not in text


def test_the_licence_is_what_the_sources_say(tmp_path: Path, params: config.Params) -> None:
    def licence(*names: str) -> object:
        return header(write(tmp_path, changed(params, "data", sources=list(names)))["dataset_card.md"])["license"]

    assert licence("masoudnickparvar/brain-tumor-mri-dataset") == "cc0-1.0"
    assert licence("sartajbhuvaji/brain-tumor-classification-mri") == "unknown"
    both = ("masoudnickparvar/brain-tumor-mri-dataset", "sartajbhuvaji/brain-tumor-classification-mri")
    assert licence(*both) == "other"


def test_what_was_trained_further_keeps_the_licence_of_its_start(tmp_path: Path, params: config.Params) -> None:
    free = changed(params, "data", sources=["masoudnickparvar/brain-tumor-mri-dataset"])
    assert header(write(tmp_path, free)["model_card.md"])["license"] == "cc0-1.0"
    further = changed(free, "pretrain", init="hub")
    assert header(write(tmp_path, further)["model_card.md"])["license"] == "unknown"


def test_a_users_path_stays_private(tmp_path: Path, params: config.Params) -> None:
    own = changed(params, "data", sources=[config.PathSource(path="/home/someone/secret/scans.zip")])
    for name, text in write(tmp_path, own).items():
        assert "someone" not in text, name
        assert "local/scans" in text, name
    hidden = own.model_copy(update={"method": "pretrained", "methods": {"pretrained": {"weights": "/home/someone/w"}}})
    assert "someone" not in str(facts.gather(tmp_path, hidden).parameters)


def test_the_checklist_is_complete(tmp_path: Path, params: config.Params) -> None:
    found = claim.items(facts.gather(world(tmp_path), params))
    assert [item.number for item in found] == list(range(1, 45))
    assert len({item.topic for item in found}) == 44
    text = write(tmp_path, params)["claim.md"]
    page.render(tmp_path, tmp_path / "index.html", facts.gather(tmp_path, params))
    report = (tmp_path / "index.html").read_text()
    for item in found:
        assert item.status in (claim.YES, claim.PART, claim.NO, claim.YOURS, claim.NONE)
        assert item.text
        assert re.search(rf"^\| {item.number} \| .* \| {item.status} \| ", text, flags=re.MULTILINE)
        assert not item.where or f'id="{item.where}"' in report
        assert item.where or item.status in (claim.YOURS, claim.NONE)


def test_the_checklist_follows_the_run(tmp_path: Path, params: config.Params) -> None:
    def status(number: int, given: config.Params, root: Path) -> str:
        return claim.items(facts.gather(root, given))[number - 1].status

    root = world(tmp_path / "whole")
    real = changed(params, "data", sources=["sartajbhuvaji/brain-tumor-classification-mri"])
    external = changed(real, "split", external=["a/b"])
    assert status(33, real, root) == claim.NO
    assert status(33, external, root) == claim.YES
    assert status(11, params, root) == claim.NONE
    assert status(11, real, root) == claim.YOURS
    assert status(31, real, root) == claim.YES
    assert status(31, real, tmp_path) == claim.NO


def test_energy_is_estimated_only_from_a_stated_power(tmp_path: Path, params: config.Params) -> None:
    root = world(tmp_path)
    assert "not measured" in write(root, params)["model_card.md"]
    stated = changed(params, "report", watts=400.0)
    assert facts.gather(root, stated).energy == pytest.approx(0.01)  # 400 W for 90 s
    assert "0.01 kWh, estimated from a stated 400 W" in write(root, stated)["model_card.md"]
    assert facts.gather(tmp_path / "nothing", stated).energy is None


GAIN, NONE, LOSS = (
    {"value": value, "low": value - 0.04, "high": value + 0.04, "holm": 0.01} for value in (0.12, 0.02, -0.09)
)


@pytest.mark.parametrize(
    ("whole", "few", "words_of_it"),
    [
        (GAIN, GAIN, "Pretraining without labels helps on these simulated lesions: "),
        (NONE, NONE, "Pretraining without labels is not shown to help on these"),
        (LOSS, LOSS, "Pretraining without labels harms on these"),
        (
            GAIN,
            NONE,
            "Pretraining without labels is shown to help with all labels and not shown to help with 10% of them",
        ),
        (NONE, LOSS, "Pretraining without labels is not shown to help with all labels and shown to harm with 10%"),
        (GAIN, None, "Pretraining without labels helps on these simulated lesions: "),
    ],
)
def test_the_first_sentence_says_what_pretraining_adds(
    tmp_path: Path, params: config.Params, whole: dict[str, float], few: dict[str, float] | None, words_of_it: str
) -> None:
    root = world(tmp_path)
    write_json(root / "details" / "comparisons.json", {"linear - random_linear": {"accuracy": whole}})
    write_json(root / "details" / "labels.json", {"linear": {"0.1": {"over_random": few}} if few else {}})
    found = facts.pretraining(facts.gather(root, params))
    assert found.startswith(words_of_it)
    assert f"{100 * whole['value']:+.1f} points with all labels (95% interval {100 * whole['low']:+.1f} to " in found
    assert ("points with 10% of them" in found) == (few is not None)
    assert "which leaks" in facts.pretraining(facts.gather(root, changed(params, "split", protocol="random")))
    published = facts.pretraining(facts.gather(root, params.model_copy(update={"method": "pretrained"})))
    assert published.startswith("Starting from published weights ")
    nothing = facts.pretraining(facts.gather(tmp_path / "nothing", params))
    assert nothing == "What pretraining without labels adds to random weights has not been measured in this run."


@pytest.mark.parametrize(("low", "verdict"), [(-0.02, "are not shown to differ"), (0.03, "differ")])
def test_two_gains_are_told_apart_by_their_difference_alone(
    tmp_path: Path, params: config.Params, low: float, verdict: str
) -> None:
    """One outside chance and one within it are no two different gains."""
    root = world(tmp_path)
    write_json(root / "details" / "comparisons.json", {"linear - random_linear": {"accuracy": GAIN}})
    few = NONE | {"gain_of_all_less_this": {"value": 0.1, "low": low, "high": 0.22}}
    write_json(root / "details" / "labels.json", {"linear": {"0.1": {"over_random": few}}})
    found = facts.pretraining(facts.gather(root, params))
    assert found.endswith(f"; these two gains {verdict}, +10.0 points ({100 * low:+.1f} to +22.0).")


@pytest.mark.parametrize(
    ("value", "low", "high", "p", "words_of_it"),
    [
        (0.05, 0.02, 0.08, 0.01, "Yes, on this test side"),
        (-0.05, -0.08, -0.02, 0.01, "No: it is worse"),
        (0.05, -0.02, 0.08, 0.3, "Not shown"),
    ],
)
def test_the_answer_is_what_the_interval_carries(
    tmp_path: Path, params: config.Params, value: float, low: float, high: float, p: float, words_of_it: str
) -> None:
    root = world(tmp_path)
    own = {"value": value, "low": low, "high": high, "p": p, "detectable": 0.06}
    write_json(
        root / "details" / "comparisons.json", {"finetune - supervised": {"accuracy": own, "balanced_accuracy": own}}
    )
    assert facts.answer(facts.gather(root, params)).startswith(words_of_it)
    leaky = changed(params, "split", protocol="random")
    assert "leaks" in facts.answer(facts.gather(root, leaky))


def test_own_images_are_not_told_what_holds_for_public_archives(tmp_path: Path, params: config.Params) -> None:
    own = changed(params, "data", sources=[config.PathSource(path="/somewhere/scans")])
    root = world(tmp_path)
    texts = write(root, own)
    page.render(root, root / "index.html", facts.gather(root, own))
    for text in (*texts.values(), (root / "index.html").read_text()):
        for wrong in ("public archives", "on kaggle", "publisher", "not published", "is published"):
            assert wrong not in text.lower(), wrong
    assert header(texts["model_card.md"])["license"] == "unknown"


def test_published_weights_keep_a_licence_that_is_not_known_here(tmp_path: Path, params: config.Params) -> None:
    real = changed(params, "data", sources=["masoudnickparvar/brain-tumor-mri-dataset"])
    assert header(write(tmp_path, real)["model_card.md"])["license"] == "cc0-1.0"
    published = real.model_copy(update={"method": "pretrained"})
    text = write(tmp_path, published)["model_card.md"]
    assert header(text)["license"] == "unknown"
    assert "of the weights: unknown" in text
