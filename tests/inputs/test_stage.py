"""A stage does not let DVC record what was not, and leaves no page of another run."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import yaml

from tumorxai.errors import UserError
from tumorxai.files import write_json, write_text
from tumorxai.inputs import provenance, stage

ROOT = Path(__file__).resolve().parents[2]
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name in ("src", "stages"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    params = tmp_path / "params.yaml"
    params.write_text(re.sub(r"^method: \w+", "method: simclr", params.read_text(), flags=re.MULTILINE))
    provenance.write(tmp_path, "simclr")
    return tmp_path


def nothing() -> None:
    pass


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))


def test_code_edited_before_a_stage_began_stops_it(project: Path) -> None:
    edit(project / "src/tumorxai/base/logistic.py", "import", "import sys\nimport")
    ran: list[int] = []
    with pytest.raises(UserError, match=r"linear: got src/tumorxai/base/logistic.py changed since.*again"):
        stage.guarded(lambda: ran.append(1), "linear", project)
    assert ran == []
    stage.guarded(lambda: ran.append(1), "fetch", project)  # which does not use it
    assert ran == [1]


def test_code_edited_while_a_stage_runs_is_told(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = project / "src/tumorxai/base/logistic.py"
    stage.guarded(lambda: edit(file, "import", "import sys\nimport"), "linear", project)
    message = capsys.readouterr().err
    assert "src/tumorxai/base/logistic.py changed while linear ran" in message
    assert "the next `dvc repro` runs it again" in message


def test_parameters_edited_while_a_stage_runs_stop_it(project: Path) -> None:
    file = project / "params.yaml"
    with pytest.raises(UserError, match=r"got linear edited in params.yaml while it ran"):
        stage.guarded(lambda: edit(file, "max_iter: 300", "max_iter: 299"), "linear", project)
    with pytest.raises(UserError, match=r"got methods.\$\{method\} edited"):
        stage.guarded(lambda: edit(file, "temperature: 0.2", "temperature: 0.3"), "pretrain", project)
    stage.guarded(lambda: edit(file, "max_iter: 299", "max_iter: 298"), "audit", project)  # which does not read it


def test_pages_of_another_run_are_gone_once_a_stage_before_them_has_begun(project: Path) -> None:
    for name in ("index.html", "model_card.md", "explanations.html"):
        write_text(project / "report" / name, "of another run")

    def left() -> set[str]:
        return {path.name for path in (project / "report").iterdir()}

    stage.guarded(nothing, "inputs", project)  # runs every time: it takes nothing away
    assert left() == {"index.html", "model_card.md", "explanations.html"}
    stage.guarded(nothing, "search", project)  # heat-maps do not hang on it
    assert left() == {"explanations.html"}
    with pytest.raises(RuntimeError):
        stage.guarded(_fail, "finetune", project)
    assert left() == set()


def _fail() -> None:
    raise RuntimeError


def _refuse() -> None:
    raise UserError("too few")


def test_a_later_mistake_names_the_classes_that_were_left_out(project: Path) -> None:
    """As when too few patients of a class are left: the folder with the others may have a name that is not known."""
    with pytest.raises(UserError, match=r"^too few$"):
        stage.reminding(_refuse, "split", project)
    write_json(project / "details/catalogue.json", {"classes_left_out": ["'gliomaa' (9 images; no known word)"]})
    with pytest.raises(UserError, match=r"^too few \(left out before, .*'gliomaa' \(9 images; no known word\)\)$"):
        stage.reminding(_refuse, "split", project)
    with pytest.raises(UserError, match=r"^too few$"):
        stage.reminding(_refuse, "fetch", project)  # which does not come after it: the file is of another run


def test_what_hangs_on_a_stage_is_read_off_the_pipeline() -> None:
    assert stage.after(STAGES, "report") == []
    assert set(stage.after(STAGES, "scores")) == {"report"}
    trained = {"pretrain", "baselines", "supervised", "labels_supervised", "finetune", "linear", "scores", "report"}
    assert trained <= set(stage.after(STAGES, "audit"))  # no score without its audit
    assert set(stage.after(STAGES, "fetch")) == STAGES.keys() - {"inputs", "fetch"}


def test_without_a_pipeline_a_stage_runs_all_the_same(tmp_path: Path) -> None:
    """As on a node without DVC."""
    ran: list[int] = []
    stage.guarded(lambda: ran.append(1), "linear", tmp_path)
    assert ran == [1]


def test_a_stage_may_ask_before_it_throws_away_what_it_would_go_on_from(project: Path) -> None:
    def main() -> None:
        stage.confirm()
        edit(project / "params.yaml", "epochs: 30", "epochs: 31")
        stage.confirm()

    stage.confirm()  # outside of a stage there is nothing to ask
    with pytest.raises(UserError, match=r"got pretrain edited in params.yaml.*put them back"):
        stage.guarded(main, "pretrain", project)
    stage.confirm()


@pytest.mark.parametrize("text", ["", "pretrain: [", "- a\n"])
def test_parameters_that_are_half_written_end_in_words(project: Path, text: str) -> None:
    with pytest.raises(UserError, match=r"params\.yaml"):
        stage.guarded(lambda: write_text(project / "params.yaml", text), "linear", project)
