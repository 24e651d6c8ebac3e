"""The certificate of the project's own split."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tumorxai import config
from tumorxai.audit import verdict
from tumorxai.base.dataset import Dataset
from tumorxai.certify import certificate, judge
from tumorxai.certify.assess import versions
from tumorxai.errors import UserError
from tumorxai.files import read_json


def certify(root: Path, out: Path) -> dict[str, Any]:
    """Write a certificate of the split under ``root/data``, and return its content.

    Raises:
        UserError: the split has not been drawn.
    """
    data, params = root / "data", config.load(root / "params.yaml")
    dataset = Dataset.load(data)
    try:
        pairs = pd.read_csv(data / "pairs.csv", usecols=["image_a", "image_b"], dtype=np.int64)
        left_out = pd.read_csv(data / "quarantine.csv", dtype=str, keep_default_na=False)
        again = read_json(root / "details" / "leakage.json")["verdict"]["evidence"]
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{data}: got {error}; expected the tables of a run; run `dvc repro audit`") from None
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
