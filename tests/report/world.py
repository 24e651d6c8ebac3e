"""A finished run, made up, for the report to be written from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from tumorxai import config
from tumorxai.audit.verdict import Evidence, judge
from tumorxai.base.glossary import TABLE
from tumorxai.files import write_csv, write_json
from tumorxai.report import page, terms

CLASSES = ["glioma", "meningioma", "no_tumor", "pituitary"]
HOSTILE = "<script>alert(1)</script>"


def entry(value: float) -> dict[str, float]:
    return {"value": value, "low": value - 0.05, "high": min(value + 0.05, 1)}


def classifier(value: float, classes: list[str]) -> dict[str, Any]:
    side: dict[str, Any] = {
        score.key: {name: entry(value) for name in classes} if score.of_class else entry(value) for score in TABLE
    }
    counts = {"train": 700, "validation": 150, "test": 150}
    return {"test": side, "validation": side, "majority_accuracy": 0.27, "images": counts, "chosen": {}}


def leakage(protocol: str, copies: int) -> dict[str, Any]:
    def found(value: float) -> dict[str, Any]:
        return {"images": 150, "accuracy": value, "accuracy_low": value - 0.05, "accuracy_high": value + 0.05}

    def one(count: int) -> dict[str, Any]:
        crossing = {"images": 150, "copies": count, "exact_copies": count // 2}
        nothing = {"images": 0, "accuracy": None}
        told = {"accuracy": 0.25 + count / 200, "chance": 0.25}
        return {
            "crossings": {"train_test": crossing},
            "second": {"train_test": {"missed": count // 10}},
            "canary": {"all": found(0.61), "no_copy": nothing, "with_series": found(0.9), "without_series": found(0.6)},
            "random_labels": told if count else None,
        }

    protocols = {"grouped": one(0), "official": {"unavailable": "no official split"}, "random": one(41)}
    protocols[protocol] = one(copies)
    estimate = {"missed": 3, "missed_low": 1, "missed_high": None}
    second = {
        "images": 963,
        "compared": 963,
        "detector": 58,
        "detector_all": 64,
        "second": 55,
        "both": 50,
        "estimate": estimate,
    }
    part = {"accuracy": 0.61, "sd": 0.03, "train_groups": 701.4, "test_groups": 150.0}
    return {
        "verdict": judge(Evidence(150, copies=copies, patients=copies // 2, known=600, unknown=394)),
        "protocol": protocol,
        "canary_size": 32,
        "in_force": protocols[protocol],
        "protocols": protocols,
        "second": second,
        "leak": {"seeds": 20, "parts": {"random": part, "grouped": part | {"sd": None}}},
    }


def world(root: Path, classes: list[str] = CLASSES, protocol: str = "grouped", copies: int = 0) -> Path:
    """A finished run's tracked files, made up."""
    details = root / "details"
    counts = {name: {"count": 250, "expected": 250 if i else None} for i, name in enumerate(classes)}
    catalogue = {"images": 1000, "quarantined": 3, "sources": {"phantom": {"images": 1000, "classes": counts}}}
    write_json(details / "catalogue.json", catalogue)
    pairs = {"exact_pairs": 37, "near_pairs": 58, "groups_of_copies": 71, "largest_group": 4, "dropped": 6}
    write_json(details / "dedupe.json", {"images": 1000, "distinct_pixels": 963, **pairs})
    sides = {
        name: {"images": count, "units": count // 6, "classes": dict.fromkeys(classes, count // 4)}
        for name, count in {"train": 694, "unlabelled": 0, "validation": 150, "test": 150, "dropped": 6}.items()
    }
    write_json(details / "split.json", {"units": 165, "label_conflicts": 6, "bridging_folds": 0, "sides": sides})
    own = {"patients": {"number": 90, "images": 600}, "folds": {"number": 0, "images": 0}}
    whose = {
        "images": 1000,
        "known": 600,
        "likely": 0,
        "unknown": 400,
        "series": {"images": 0},
        "sources": {"phantom": own},
    }
    write_json(details / "patients.json", whose)
    write_json(details / "leakage.json", leakage(protocol, copies))
    write_json(details / "pretrain.json", {"epochs": 30, "images": 694, "loss": 4.2})
    for name, value in (("linear", 0.712), ("finetune", 0.834), ("supervised", 0.655)):
        write_json(details / f"{name}.json", classifier(value, classes))
        actual = np.repeat(classes, 10)
        predicted = actual.copy()
        predicted[3] = classes[1]
        write_csv(root / "plots" / name / "predictions.csv", pd.DataFrame({"actual": actual, "predicted": predicted}))
    for name in ("knn", "random_linear", "pixel_neighbour", "majority"):
        write_json(details / f"{name}.json", classifier(0.5, classes))
    errors = {"error": entry(0.11), "brier": entry(0.2)}
    chosen = {"coverage": entry(0.8), "sensitivity": entry(0.95), "threshold": 0.6}
    calibration = {"temperature": 1.63, "at_bound": False, "before": errors, "after": errors, "selective": chosen}
    never = calibration | {"selective": {"coverage": None, "sensitivity": None, "threshold": None}}
    write_json(details / "calibration.json", {"linear": calibration, "finetune": never, "supervised": calibration})
    pair = {name: entry(0.179) | {"p": 0.013, "detectable": 0.061} for name in ("accuracy", "balanced_accuracy")}
    write_json(details / "comparisons.json", {"finetune - supervised": pair})
    strange = {HOSTILE: {"images": 200, "auroc": entry(0.93), "false_alarms": 0.21}}
    write_json(details / "foreign.json", {"neighbours": 10, "own_images": 300, "foreign": strange})
    drawn = entry(0.4) | {"sd": 0.03}
    few = {
        str(share): {"labelled": 700 * share, "different": 300 * share, "draws": 5, "balanced_accuracy": drawn}
        for share in (0.1, 0.01)
    }
    whole = {"1": {"labelled": 700, "different": 300, "draws": 1, "balanced_accuracy": entry(0.8) | {"sd": None}}}
    shots = {"5": {"labelled": 20.0, "different": 20.0, "draws": 100, "balanced_accuracy": drawn}}
    write_json(details / "labels.json", {"shots": shots, "linear": few, "finetune": whole})
    both = {"accuracy": entry(0.61), "balanced_accuracy": entry(0.59)}
    grades = {"1": both, "5": both}
    disturbed = {"images": 96, "clean": both, "mean": both, "by_grade": grades, "corruptions": {"noise": grades}}
    write_json(details / "robustness.json", disturbed)
    doubtful = {"suspected": 77, "suspected_on_test": 11, "out_of_fold_accuracy": 0.713}
    write_json(details / "errors.json", {"test_errors": 41, "images": 1000, **doubtful})
    sources = terms.FLOORS
    localisation = {name: {source: entry(0.5) for source in sources} for name in page.LOCALISATION}
    scored = {"scored_images": 110, "scored_correct": 90, "zero_maps": 2, "mask_kinds": {"mask": 110}}
    passed = {"grad_cam": {"passed": 9, "of": 17}, "uniform": {"passed": 0, "of": 0}}
    scored["classifiers"] = {"finetuned": {"passed": passed}, "linear": {"passed": passed}}
    scored["titles"] = {"grad_cam": "Grad-CAM"}
    write_json(details / "explain.json", {"layer": "layer3", "grid": [4, 4], **scored, "localisation": localisation})
    retrieval = {name: entry(0.58) for name in ("precision", "recall", "map", "ndcg")}
    answers = dict.fromkeys(("honest", "leaky", "pixel", "pixel_leaky"), retrieval)
    counted = {"neighbours": 5, "database": 844, "queries": 150, "queries_with_kin": 12, "index_recall": 1.0}
    found = {"chance": dict.fromkeys(retrieval, 0.25), "by_class": dict.fromkeys(classes, retrieval)}
    write_json(details / "search.json", {**counted, **answers, **found, "leakage": {"precision": entry(0.034)}})
    for name in ("loss", "c_acc", "lr"):
        table = pd.DataFrame({"step": range(30), name: np.geomspace(5, 1, 30)})
        (root / "plots" / "pretrain" / "plots").mkdir(parents=True, exist_ok=True)
        table.to_csv(root / "plots" / "pretrain" / "plots" / f"{name}.tsv", sep="\t", index=False)
    for name in ("finetune", "supervised"):
        epochs = {"epoch": range(1, 9), "loss": 1.0, "validation_loss": 1.1, "validation_balanced_accuracy": 0.5}
        write_csv(root / "plots" / "training" / f"{name}.csv", pd.DataFrame(epochs))
    for name in ("cams/grid", "search/neighbours", "audit/leakage", "scores/curves", "errors/worst"):
        (root / "plots" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (60, 40), "teal").save(root / "plots" / f"{name}.png")
    speed = {"device": "x86_64", "threads": 2, "precision": "32-true", "seconds": 90.0, "images_per_second": 231.4}
    write_json(root / "models" / "pretrain_run.json", speed)
    return root


def changed(params: config.Params, block: str, **values: Any) -> config.Params:
    return params.model_copy(update={block: getattr(params, block).model_copy(update=values)})
