"""The tables of protocols and of scores agree with what is computed and with the pipeline."""

from __future__ import annotations

import re

import numpy as np
import pytest
import yaml

from tests.conftest import ROOT
from tumorxai.base import glossary, protocols, scores
from tumorxai.inputs import provenance

STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
TRAINING = ("pretrain", "embed", "linear", "frozen", "baselines", "finetune", "supervised")
TRAINING += ("labels_finetune", "labels_supervised")


def test_every_score_that_is_computed_is_in_the_table() -> None:
    rng = np.random.default_rng(0)
    truth, chances = rng.integers(0, 3, 40), rng.dirichlet(np.ones(3), 40)
    found = scores.summarise(truth, chances, np.arange(40), ("a", "b", "c"), 0)
    assert found.keys() == glossary.SCORES.keys()
    assert len(glossary.SCORES) == len(glossary.TABLE)
    assert {key for key, own in glossary.SCORES.items() if own.of_class} == set(scores.PER_CLASS)


@pytest.mark.parametrize("own", protocols.TABLE, ids=lambda own: own.key)
def test_a_protocol_is_made_by_its_stage_and_scored(own: protocols.Protocol) -> None:
    assert f"models/predictions_{own.key}.csv" in STAGES[own.stage]["outs"]
    scored = STAGES["scores"]
    assert f"models/predictions_{own.key}.csv" in scored["deps"]
    assert (f"models/curve_{own.key}.csv" in scored["deps"]) == own.fractions
    assert f"details/{own.key}.json" in scored["outs"]
    assert (f"plots/{own.key}" in scored["outs"]) == own.plotted
    assert ({f"metrics/{own.key}.json": {"cache": False}} in scored["metrics"]) == own.shown
    assert re.fullmatch("#[0-9A-F]{6}", own.colour)


def test_the_pipeline_scores_no_other_protocol() -> None:
    made = {path for stage in STAGES.values() for path in stage.get("outs", []) if isinstance(path, str)}
    kept = {path for path in made if re.fullmatch(r"models/predictions_\w+\.csv", path)}
    assert kept == {f"models/predictions_{key}.csv" for key in protocols.PROTOCOLS}
    for values in ([own.title for own in protocols.TABLE], [own.colour for own in protocols.TABLE]):
        assert len(set(values)) == len(protocols.TABLE)


@pytest.mark.parametrize("stage", TRAINING)
def test_another_title_trains_nothing(stage: str) -> None:
    read = {path.name for path in provenance.files(ROOT, stage, "simclr")}
    assert not read & {"protocols.py", "glossary.py"}
