"""The certificate of the project's own split."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tumorxai import config
from tumorxai.audit import verdict
from tumorxai.base.dataset import Dataset, read_pairs
from tumorxai.certify import certificate, judge
from tumorxai.certify.assess import versions
from tumorxai.files import read_csv, read_json, reading

LEFT_OUT = ("source", "path", "reason")  # columns of quarantine.csv


def certify(root: Path, out: Path) -> dict[str, Any]:
    """Write a certificate of the split under ``root/data``, and return its content.

    Raises:
        UserError: the split has not been drawn.
    """
    data, params = root / "data", config.load(root / "params.yaml")
    dataset = Dataset.load(data)
    pairs = read_pairs(data / "pairs.csv", len(dataset.table))[["image_a", "image_b"]]
    left_out = read_csv(data / "quarantine.csv", *LEFT_OUT, dtype=str, keep_default_na=False)
    leakage, remedy = root / "details" / "leakage.json", "run `dvc repro audit`"
    content = read_json(leakage, "verdict", remedy=remedy)
    with reading(leakage, "the evidence of an audit", remedy):
        again = content["verdict"]["evidence"]
    table = dataset.table.assign(side=dataset.table["side"].replace("dropped", ""))
    evidence = judge.evidence(table, pairs, again["missed"], again["explained"])
    summary = {
        "verdict": verdict.judge(evidence)["level"],
        "crossings": judge.crossings(table, pairs),
        "second": again,
        "detector": params.dedupe.model_dump(),
        "versions": versions(),
    }
    content = certificate.make(table, left_out, summary, "pipeline")
    certificate.write(out, content)
    return content
