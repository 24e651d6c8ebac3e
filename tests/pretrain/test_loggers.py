"""Curves in other programs: off unless asked for, the same points, and no training lost to a service."""

from __future__ import annotations

import csv
import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from dvc.repo import Repo
from pytorch_lightning.loggers import CSVLogger

from tumorxai import config
from tumorxai.errors import UserError
from tumorxai.pretrain import loggers
from tumorxai.pretrain.curves import Curves

HISTORY = [{"loss": 3.0, "c_acc": 0.25}, {"loss": 2.0, "c_acc": 0.5}]
LAST = {"loss": 1.0, "c_acc": 0.75}


def draw(folder: Path) -> None:
    """A run that was resumed after two epochs and has one more."""
    with Curves(folder / "curves", HISTORY) as curves:
        curves.add(LAST)


@pytest.fixture
def project(tmp_path: Path, params: config.Params, monkeypatch: pytest.MonkeyPatch) -> Path:
    given = params.model_dump(mode="json")
    given["data"]["sources"] = [{"path": "/home/someone/scans"}]
    given["search"]["url"] = "https://someone.example:6333"
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(given))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def into_csv(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask for a logger of Lightning's that needs no further package."""
    monkeypatch.setitem(loggers.LOGGERS, "csv", lambda name: CSVLogger("logged", name=name.replace(" ", "_")))
    monkeypatch.setenv(loggers.VARIABLE, "csv")


def test_nothing_is_loaded_or_written_unless_asked_for(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from tumorxai.pretrain.curves import Curves; "
        "curves = Curves(Path('curves'), []); curves.add({'loss': 1.0}); curves.__exit__(None); "
        "sys.exit('pytorch_lightning' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    assert [path.name for path in tmp_path.iterdir()] == ["curves"]


def test_every_epoch_goes_there_once_with_those_before_a_resumption(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    into_csv(monkeypatch)
    draw(project)
    (table,) = project.glob("logged/*/*/metrics.csv")
    with table.open() as stream:
        rows = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(stream)]
    assert rows == [signals | {"step": step} for step, signals in enumerate([*HISTORY, LAST])]
    lines = (project / "curves/plots/metrics/loss.tsv").read_text().splitlines()
    assert len(lines) == 1 + len(rows)


def test_parameters_go_along_without_paths_and_addresses(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    into_csv(monkeypatch)
    draw(project)
    (saved,) = project.glob("logged/*/*/hparams.yaml")
    text = saved.read_text()
    assert "pretrain.epochs: 3" in text
    assert "methods.simclr." in text
    assert "methods.byol." not in text
    assert "someone" not in text


class Failing(CSVLogger):
    """As a service that goes away after the first epoch."""

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        if step:
            raise ConnectionError("the service is gone\nwith details")
        super().log_metrics(metrics, step)


def test_a_service_that_goes_away_stops_no_training(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(loggers.LOGGERS, "csv", lambda name: Failing("logged"))
    monkeypatch.setenv(loggers.VARIABLE, "csv")
    draw(project)
    assert capsys.readouterr().err == "warning: csv gets no more points of this run: the service is gone\n"
    assert len((project / "curves/plots/metrics/loss.tsv").read_text().splitlines()) == 4


def test_a_service_that_refuses_ends_the_run_before_it_begins(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refusing(_: str) -> Any:
        raise ConnectionError("no route")

    monkeypatch.setitem(loggers.LOGGERS, "csv", refusing)
    monkeypatch.setenv(loggers.VARIABLE, "csv")
    with pytest.raises(UserError, match=r"csv cannot be written to \(no route\)"):
        draw(project)


def test_an_unknown_name_is_refused(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(loggers.VARIABLE, "mlfow")
    with pytest.raises(UserError, match="did you mean mlflow"):
        draw(project)


def test_a_project_that_was_never_committed_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    subprocess.run(["git", "init", "--quiet"], check=True)
    Repo.init(str(tmp_path)).close()
    with pytest.raises(UserError, match="git commit -m"):
        draw(tmp_path)


@pytest.mark.parametrize("name", ["mlflow", "wandb"])
def test_a_package_that_is_missing_is_named(project: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    if importlib.util.find_spec(name):
        pytest.skip(f"{name} is installed")
    monkeypatch.setenv(loggers.VARIABLE, name)
    with pytest.raises(UserError, match=rf"uv pip install --editable '\.\[{name}\]'"):
        draw(project)


def test_mlflow_has_the_run(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow", reason="an extra: `uv pip install mlflow`")
    monkeypatch.setenv(loggers.VARIABLE, "mlflow")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    draw(project)
    client = mlflow.MlflowClient(f"sqlite:///{project}/mlflow.db")
    (run,) = client.search_runs([client.get_experiment_by_name(loggers.PROJECT).experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.params["method"] == "simclr"
    points = sorted((point.step, point.value) for point in client.get_metric_history(run.info.run_id, "loss"))
    assert points == [(0, 3.0), (1, 2.0), (2, 1.0)]


def test_mlflow_is_told_of_a_run_that_failed(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow", reason="an extra: `uv pip install mlflow`")
    monkeypatch.setenv(loggers.VARIABLE, "mlflow")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(UserError), Curves(project / "curves", HISTORY):
        raise UserError("stopped")
    client = mlflow.MlflowClient(f"sqlite:///{project}/mlflow.db")
    (run,) = client.search_runs([client.get_experiment_by_name(loggers.PROJECT).experiment_id])
    assert run.info.status == "FAILED"


def test_weights_and_biases_keeps_the_run(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb", reason="an extra: `uv pip install wandb`")
    monkeypatch.setenv(loggers.VARIABLE, "wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    draw(project)
    (folder,) = (project / "wandb").glob("offline-run-*")
    assert list(folder.glob("run-*.wandb"))
    summary = folder / "files" / "wandb-summary.json"
    if summary.exists():  # not every release writes one offline
        assert json.loads(summary.read_text())["loss"] == 1.0
