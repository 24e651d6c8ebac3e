"""The leaderboard of a real project: a score belongs to what was run, and what is left out is named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
import yaml
from playwright.sync_api import Browser
from typer.testing import CliRunner

from tests.browser import violations
from tests.report.test_page import Page
from tests.run.compare.project import build, commit, do, dvc, start
from tumorxai.cli import app
from tumorxai.errors import UserError
from tumorxai.files import write_text
from tumorxai.run import compare
from tumorxai.run.compare import overlay
from tumorxai.run.compare.revisions import Missing

pytestmark = pytest.mark.slow  # some thirty commands of dvc
PROTOCOLS = ["linear", "supervised"]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DVC project with a commit before the first run, one after it, and six experiments."""
    folder = tmp_path_factory.mktemp("compared")
    build(folder)
    return folder


@pytest.fixture(scope="module")
def board(project: Path) -> pd.DataFrame:
    return compare.write(project, -1, PROTOCOLS)


@pytest.fixture
def copy(project: Path, tmp_path: Path) -> Path:
    """A project of one's own to break."""
    return shutil.copytree(project, tmp_path / "project", symlinks=True)


def models(board: pd.DataFrame, name: str) -> list[str]:
    """Models of the rows that an experiment stands in."""
    return sorted(board.loc[board["experiments"].str.split().map(lambda names: name in names), "model"])


def test_a_score_belongs_to_what_was_run_for_it(board: pd.DataFrame) -> None:
    main, other = board["test_side"].unique()
    assert models(board, "byol") == ["linear probe, BYOL, bonus=0, seed 0", "supervised from scratch, seed 0"]
    assert models(board, "seed-one-byol") == ["linear probe, BYOL, bonus=0, seed 1", "supervised from scratch, seed 1"]
    assert models(board, "other-data") == ["linear probe", "supervised from scratch"]
    assert set(board.loc[board["experiments"] == "other-data", "test_side"]) == {other}
    assert len(board[board["test_side"] == main]) == 7
    assert board["model"][board["test_side"] == main].is_unique
    supervised = board[board["model"] == "supervised from scratch, seed 0"].iloc[0]
    assert set(supervised["experiments"].split()) == {"workspace", "main", "byol", "warm"}  # once, without a method
    assert supervised["settings"] == "seed=0"
    warm = board[board["experiments"] == "warm"].iloc[0]
    assert warm["model"] == "linear probe, SimCLR, bonus=0.1, seed 0, +1 more"
    assert "methods.simclr.temperature=0.9" in warm["settings"]
    assert not board["settings"].str.contains("preset|supervised").any()


def test_scores_that_an_audit_left_standing_are_not_those_of_its_split(project: Path, board: pd.DataFrame) -> None:
    assert models(board, "leaky") == []
    assert not board["settings"].str.contains("random").any()
    kept = (project / "leaderboard" / "leaderboard.md").read_text()
    assert "leaky: linear, supervised were not run after split changed" in kept
    assert "leaky: pretrain was not run after split changed" in kept  # nor is its curve drawn


def test_what_is_written(project: Path, board: pd.DataFrame) -> None:
    folder = project / "leaderboard"
    assert {each.name for each in folder.iterdir()} == {
        *("leaderboard.csv", "pairs.csv", "leaderboard.json", "leaderboard.md", "scores.png", "ranks.png", "index.html")
    }
    assert len(pd.read_csv(folder / "pairs.csv")) == 7 * 6 / 2 + 1
    text = (folder / "leaderboard.md").read_text()
    assert "nothing was run" in text  # the commit before the first run
    assert "+1 more: linear.bonus=0.1; seed=0; method=simclr; methods.simclr.temperature=0.9" in text
    assert "Common to all: seed 0, on two." in text
    for name in ("scores", "ranks"):
        assert (folder / f"{name}.png").stat().st_size < 300_000
    pd.testing.assert_frame_equal(board, compare.write(project, -1, PROTOCOLS))
    assert "leaderboard" not in do(project, "git", "status", "--porcelain")
    assert "leaderboard" not in dvc(project, "metrics", "show")


def test_the_page_fetches_nothing(project: Path, board: pd.DataFrame) -> None:
    text = (project / "leaderboard" / "index.html").read_text()
    page = Page(text)
    for tag, attributes in page.tags:
        assert tag not in ("script", "link", "iframe", "object", "image")
        for name in ("src", "href", "xlink:href"):
            value = attributes.get(name)
            assert value is None or value.startswith(("data:image/png;base64,", "#")), value
    assert "url(http" not in text
    assert "@import" not in text
    assert str(project) not in text
    assert sum(tag == "img" for tag, _ in page.tags) == 2
    scrolled = [attributes for _, attributes in page.tags if attributes.get("class") == "scroll"]
    assert scrolled
    assert all(attributes.get("tabindex") == "0" and attributes.get("aria-label") for attributes in scrolled)
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everybody_can_read_the_page(chromium: Browser, project: Path, board: pd.DataFrame, scheme: str) -> None:
    opened = chromium.new_page(color_scheme=scheme, viewport={"width": 360, "height": 800})  # type: ignore[arg-type]
    opened.goto((project / "leaderboard" / "index.html").as_uri())
    assert opened.evaluate("document.documentElement.scrollWidth") == 360
    assert violations(opened) == []
    opened.close()


def test_the_curves_of_the_runs_lie_over_each_other(project: Path, board: pd.DataFrame) -> None:
    text = (project / "leaderboard" / "index.html").read_text()
    summaries = [attributes.get("aria-label") or "" for _, attributes in Page(text).tags]
    loss = next(summary for summary in summaries if summary.startswith("loss:"))
    # `warm` and the first run have one loss; `leaky` trained nothing; `other-data` has the loss of the first
    assert loss.count(" from 2 to ") == 4
    assert "BYOL, seed 0 from 2 to 4" in loss
    assert "BYOL, seed 1 from 2 to 5" in loss
    roc = [summary for summary in summaries if summary.startswith("linear probe, test side")]
    assert len(roc) == 2
    main = board["test_side"].iloc[0]
    assert roc[0].startswith(f"linear probe, test side {main}: BYOL, bonus=0, seed 1 from 0 to 1; ")
    assert roc[0].count(" from 0 to 1") == 5
    training = [summary for summary in summaries if summary.startswith("supervised from scratch, test side")]
    assert len(training) == 4  # the loss and ROC of each test side
    assert training[0].endswith(": seed 0; seed 1 from 2 to 1")  # one content
    assert text.count('class="confusion"') == 6
    assert "Test side" in text


def test_what_others_wrote_is_escaped(tmp_path: Path) -> None:
    start(tmp_path)
    name = "<b>&owner/x<script>alert(1)</script>"
    write_text(tmp_path / "params.yaml", (tmp_path / "params.yaml").read_text().replace("owner/one", name))
    dvc(tmp_path, "repro", "-q")
    commit(tmp_path, "hostile")
    compare.write(tmp_path, -1, PROTOCOLS)
    text = (tmp_path / "leaderboard" / "index.html").read_text()
    assert "script&gt;" in text
    assert "<script" not in text
    assert "<script" not in (tmp_path / "leaderboard" / "leaderboard.md").read_text()


def test_the_command(project: Path, board: pd.DataFrame) -> None:
    done = CliRunner().invoke(app, ["compare", "--root", str(project), "--protocol", "linear"])
    assert done.exit_code == 0
    assert done.stdout.rstrip().endswith(str(project / "leaderboard" / "index.html"))
    printed = done.stdout.splitlines()
    assert max(map(len, printed[:-1])) <= 100
    assert "supervised" not in done.stdout
    result = CliRunner().invoke(app, ["compare", "--root", str(project), "--json"])
    assert {row["protocol"] for row in json.loads(result.stdout)} == set(PROTOCOLS)


def test_an_edited_workspace_changes_nothing(copy: Path, board: pd.DataFrame) -> None:
    path = copy / "models" / "predictions_linear.csv"
    text = path.read_text()
    path.unlink()  # DVC may have linked it to the cache
    write_text(path, text.replace("0.8", "0.1"))
    roc = copy / "plots" / "linear" / "roc.csv"
    roc.unlink()
    write_text(roc, "unfinished")
    pd.testing.assert_frame_equal(compare.write(copy, -1, PROTOCOLS), board)
    assert "no numbers" not in (copy / "leaderboard" / "leaderboard.md").read_text()


def cached(folder: Path, md5: str) -> Path:
    return folder / ".dvc" / "cache" / "files" / "md5" / md5[:2] / md5[2:]


def outs(folder: Path, name: str) -> dict[str, str]:
    """Digests of what an experiment wrote, by path."""
    content = yaml.safe_load(do(folder, "git", "show", f"{reference(folder, name)}:dvc.lock"))
    return {out["path"]: out["md5"] for stage in content["stages"].values() for out in stage["outs"]}


def reference(folder: Path, name: str) -> str:
    every = do(folder, "git", "for-each-ref", "--format=%(refname)", "refs/exps").split()
    return next(each for each in every if each.endswith(f"/{name}"))


def test_what_left_the_cache_is_named(copy: Path) -> None:
    byol, warm = outs(copy, "byol"), outs(copy, "warm")
    cached(copy, byol["models/predictions_linear.csv"]).unlink()
    damaged = cached(copy, warm["models/predictions_linear.csv"])
    damaged.chmod(0o644)
    damaged.write_text("half")
    cached(copy, outs(copy, "seed-one")["plots/pretrain"]).unlink()
    found = compare.write(copy, -1, PROTOCOLS)
    assert models(found, "byol") == models(found, "warm") == ["supervised from scratch, seed 0"]
    text = (copy / "leaderboard" / "leaderboard.md").read_text()
    assert "warm, byol: the predictions of linear are not in the cache" in text
    assert "seed-one: plots that are not in the cache are not drawn" in text
    shutil.rmtree(copy / ".dvc" / "cache" / "files")
    assert models(compare.write(copy, -1, PROTOCOLS), "workspace")  # whose own files are those of its lock
    shutil.rmtree(copy / "models")
    with pytest.raises(UserError, match=r"no kept predictions.*not in the cache.*dvc repro"):
        compare.write(copy, -1, PROTOCOLS)


def test_revisions_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    start(tmp_path)
    good = (tmp_path / "dvc.lock").read_text()
    dvc(tmp_path, "exp", "run", "-q", "--queue", "-n", "later", "-S", "seed=7")
    write_text(tmp_path / "dvc.lock", "{{{")
    commit(tmp_path, "broken")
    write_text(tmp_path / "dvc.lock", good)
    dvc(tmp_path, "repro", "-q")
    commit(tmp_path, "mended")
    found = compare.write(tmp_path, -1, PROTOCOLS)
    assert len(found) == 2
    lines = (tmp_path / "leaderboard" / "leaderboard.md").read_text().split("## Left out")[1]
    revision = do(tmp_path, "git", "rev-parse", "--short=7", "HEAD~1").strip()
    assert f"- {revision}: dvc.lock: got ParserError" in lines
    assert "- later: the experiment is queued" in lines
    assert "nothing was run" in lines


def test_plots_that_git_keeps_are_drawn_too(tmp_path: Path) -> None:
    start(tmp_path)
    pipeline = (tmp_path / "dvc.yaml").read_text()
    pipeline = pipeline.replace(
        "outs: [models/encoder, plots/pretrain]", "outs: [models/encoder, {plots/pretrain: {cache: false}}]"
    )
    write_text(tmp_path / "dvc.yaml", pipeline)
    write_text(
        tmp_path / ".gitignore",
        "/models\n/data\n/metrics\n/leaderboard\n/plots/*\n!/plots/pretrain\n!/plots/dvc.yaml\n",
    )
    shutil.rmtree(tmp_path / ".dvc" / "cache")
    dvc(tmp_path, "repro", "-q", "--force")
    compare.write(tmp_path, 1, PROTOCOLS)
    page = tmp_path / "leaderboard" / "index.html"
    assert "Pretraining loss" in page.read_text()
    loss = tmp_path / "plots" / "pretrain" / "plots" / "metrics" / "loss.tsv"
    kept = loss.read_text()
    write_text(loss, "step\tloss\n0\t9\n1\t9\n")  # unfinished, and not committed
    compare.write(tmp_path, 1, PROTOCOLS)
    assert "Pretraining loss" not in page.read_text()
    write_text(loss, kept)
    commit(tmp_path, "kept by git")
    compare.write(tmp_path, 1, PROTOCOLS)
    assert "from 2 to 6" in page.read_text()


def test_not_more_curves_than_colours() -> None:
    plot = overlay.Plot("t", "a.csv", "x", "y", ("x", "y"))
    own = [overlay.Line(f"<{i}>", [f"e{i}"], {}, f"x,y\n0,{i}\n1,{i}\n".encode()) for i in range(10)]
    drawn = overlay.chart(plot, "title", "name", own, Missing())
    assert drawn is not None
    assert (len(drawn.legend), drawn.more) == (8, 2)
    assert len({colour for colour, *_ in drawn.legend}) == 8
    assert drawn.summary.startswith("title: <0> from 0 to 0; <1> from 1 to 1")


def test_a_curve_that_is_none_is_named() -> None:
    plot, missing = overlay.Plot("t", "a.csv", "x", "y", ("x", "y")), Missing()
    own = [overlay.Line("a", ["e"], {}, content) for content in (b"x\n1\n", b"x,y\n1,word\n", b"")]
    assert overlay.chart(plot, "title", "name", own, missing) is None
    assert missing.lines == ["e: a.csv has no numbers y over x"]


def test_plots_of_another_form_are_named() -> None:
    known, unknown = overlay.plots("plots: [a.csv, {b.csv: {x: k}}, {c: {x: s, y: {d.csv: [e, f]}}}]")
    assert unknown == ["a.csv", "b.csv"]
    assert [(plot.title, plot.file, plot.y) for plot in known] == [("c", "plots/d.csv", "e"), ("c", "plots/d.csv", "f")]
    assert overlay.plots("") == ([], [])
    with pytest.raises(UserError, match=r"dvc\.yaml: got"):
        overlay.plots("{{{")


def test_predictions_that_nobody_made_are_refused(project: Path) -> None:
    with pytest.raises(UserError, match=r"no kept predictions.*dvc repro"):
        compare.write(project, -1, ["finetune"])


def test_a_folder_that_is_no_project_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="expected a DVC project"):
        compare.write(tmp_path, 1, ["linear"])
