"""The papers, rerun: each one's preset under its own protocol and on a split without copies, beside what it claims.

    python -m tumorxai.tools.papers firildak --only joint-random joint-grouped --set pretrain.epochs=5

``papers/NAME.yaml`` lists the runs. Each is a ``dvc exp run`` of the preset with the list's ``set`` and its own; what
DVC's cache holds is not run again, so that an interrupted list goes on where it was. After every run
``results/NAME.json`` and ``results/NAME.md`` are written; a run that has not been asked for, or has failed, stands
there as such.
"""

from __future__ import annotations

import argparse
import os
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from tumorxai import config
from tumorxai.base import jackknife
from tumorxai.base.predictions import Predictions
from tumorxai.base.protocols import BY_LEARNING
from tumorxai.errors import UserError, known, run
from tumorxai.files import read_json, write_json, write_text
from tumorxai.report.origin import commit
from tumorxai.tools import papers_figure, presets
from tumorxai.tools.offline import plan, sweep

MODELS = {own.key: own.short for own in BY_LEARNING if own.listed}
FEW = tuple(own.key for own in BY_LEARNING if own.plotted and own.fractions)  # listed for fractions of the labels, too
PROTOCOLS = ("random", "grouped")  # the papers', and without copies; the last word of a run's name
SCALE = ("data.sources", "data.image_size", "model.backbone", "pretrain.epochs")  # named beside a score, if changed
SIGNALS = ("c_acc", "p_acc", "r_acc", "r_acc_nan_wins")  # of the last epoch of pretraining
SEARCH = {"precision": "similar cases, precision", "leaky": "with copies of the query"}
START, END = "<!-- papers: written by `make papers` -->", "<!-- /papers -->"


def describe(name: str, folder: Path = Path("papers")) -> dict[str, Any]:
    """The list of a paper's runs.

    Raises:
        UserError: there is none of that name.
    """
    path = folder / f"{known('paper', name, sorted(file.stem for file in folder.glob('*.yaml')))}.yaml"
    content: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return content


def collect(root: Path, stages: Sequence[str], seed: int) -> dict[str, Any]:
    """Scores of the run whose files stand under ``root``; shares in [0, 1], with 95 % intervals.

    Args:
        root: project folder.
        stages: that were run. Files of other stages may be left from another run.
        seed: of the jackknife.
    """
    scores = {}
    for model in (own.key for stage in stages for own in BY_LEARNING if own.listed and own.stage == stage):
        kept = Predictions.read(root / "models" / f"predictions_{model}.csv")
        test, watched = kept.on("test"), kept.on("validation")
        drawn = jackknife.draw(test.clusters, seed)
        scores[model] = drawn.entry(drawn.means(test.predicted == test.truth))
        if len(watched.truth):
            scores[model]["validation"] = float((watched.predicted == watched.truth).mean())
    split, leakage = (read_json(root / "details" / f"{name}.json") for name in ("split", "leakage"))
    pretrain = read_json(root / "details/pretrain.json")
    train, test = (split["sides"][side]["images"] for side in ("train", "test"))
    if "val_p_acc" in pretrain and not split["sides"]["validation"]["images"]:  # then the test side was watched
        held = pd.read_csv(root / "models/online_probe.csv")
        drawn = jackknife.draw(held["cluster"].to_numpy(), seed)
        scores["val_p_acc"] = drawn.entry(drawn.means(held["right"]))
    if "scores" in stages:
        labels = read_json(root / "details/labels.json")
        for fraction in labels["finetune"]:
            if fraction != "1":  # all labels: the stages' own scores
                scores |= {
                    f"{model}@{fraction}": labels[model][fraction]["accuracy"]
                    for model in FEW
                    if fraction in labels[model]
                }
    crossings = leakage["in_force"].get("crossings") or {}
    found: dict[str, Any] = {
        "scores": scores,
        "signals": {name: pretrain[name] for name in SIGNALS if name in pretrain},
        "epochs": pretrain["epochs"],
        "train_images": train,
        "test_images": test,
        "test_copies": crossings.get("train_test", {}).get("copies"),
    }
    if "search" in stages:
        content = read_json(root / "details/search.json")
        found["search"] = {"precision": content["honest"]["precision"], "leaky": content["leaky"]["precision"]}
    return found


def surroundings(root: Path) -> dict[str, Any]:
    """Commit, hardware and versions."""
    import torch  # late: the other functions need none

    gpu = torch.cuda.is_available()
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "commit": commit(root),
        "hardware": torch.cuda.get_device_name() if gpu else f"{os.cpu_count()} CPU cores, {platform.machine()}",
        "versions": {name: version(name) for name in ("torch", "timm", "lightly", "scikit-learn")},
        "python": platform.python_version(),
    }


def experiment(root: Path, name: str, settings: Sequence[str], stages: Sequence[str]) -> list[str]:
    """Run stages of the current parameters as a DVC experiment, in the place of an earlier one of that name.

    Args:
        root: project folder.
        name: of the experiment.
        settings: changes of the parameters, such as ``pretrain.epochs=1``.
        stages: to run, with what they need.

    Returns:
        What `dvc exp run` was given beside the name.

    Raises:
        UserError: the pipeline has failed; its output was shown.
    """
    dvc = [sys.executable, "-m", "dvc", "exp"]
    subprocess.run([*dvc, "remove", "--quiet", name], cwd=root, check=False, capture_output=True)  # noqa: S603
    asked = [*(part for setting in settings for part in ("-S", setting)), *stages]
    if subprocess.run([*dvc, "run", "--name", name, *asked], cwd=root, check=False).returncode:  # noqa: S603
        raise UserError(f"{name} has failed; its output stands above; correct it and run again")
    return asked


def rerun(root: Path, name: str, described: dict[str, Any], settings: list[str]) -> dict[str, Any]:
    """One run: the paper's preset with ``settings``; what it left.

    Raises:
        UserError: the pipeline has failed; its output was shown.
    """
    preset = described["preset"]
    presets.apply(preset, root / "presets", root / "params.yaml")
    started = time.monotonic()
    asked = experiment(root, name, settings, described["stages"])
    return {
        "status": "done",
        "command": f"make preset NAME={preset} && dvc exp run {shlex.join(asked)}",
        "minutes": (time.monotonic() - started) / 60,
        **surroundings(root),
        "pretrained": {key: read_json(root / "models/pretrain_run.json")[key] for key in ("device", "torch")},
        **collect(root, described["stages"], config.load(root / "params.yaml").seed),
    }


def _percent(score: dict[str, float] | None) -> str:
    if score is None:
        return ""
    text = f"{100 * score['value']:.1f}"
    return text if score.get("low") is None else f"{text} [{100 * score['low']:.1f}, {100 * score['high']:.1f}]"


def _heading(score: str) -> str:
    """Of a column: ``finetune`` is of all labels, ``finetune@0.1`` of a tenth of them."""
    model, _, fraction = score.partition("@")
    text = MODELS.get(model, model)
    return f"{text}, {float(fraction):.0%} of the labels" if fraction else text


def table(described: dict[str, Any], rows: dict[str, dict[str, Any]]) -> str:
    """The Markdown of a paper's results."""
    found = dict.fromkeys(name for row in rows.values() for name in row.get("scores", {}))
    shown = [*(name for name in ("val_p_acc", *MODELS) if name in found), *(name for name in found if "@" in name)]
    searched = any("search" in row for row in rows.values())
    asked_for = any("signals" in run for run in described["runs"].values())
    signals = [name for name in SIGNALS if asked_for and any(name in row.get("signals", {}) for row in rows.values())]
    heads = [
        "run",
        "claimed",
        *map(_heading, shown),
        *signals,
        *(SEARCH.values() if searched else ()),
        "test images (of which with a copy on the training or unlabelled side)",
        "epochs",
    ]
    lines = [
        f"# {described['title']}",
        "",
        f"Preset `{described['preset']}`. {described['note'].strip()}",
        "",
        *_smaller(rows),
        "Test accuracy in percent; 95 % intervals over copies. `grouped` keeps copies on one side, and "
        "patients only where an archive names them.",
        "",
        "| " + " | ".join(heads) + " |",
        "|---" * len(heads) + "|",
    ]
    for name, asked in described["runs"].items():
        row = rows.get(name, {})
        claimed = f"{asked['claimed']:g}" if "claimed" in asked else ""
        if row.get("status") != "done":
            lines.append(f"| {name} | {claimed} | {row.get('status', 'not run')} " + "| " * (len(heads) - 3) + "|")
            continue
        scores = [_percent(row["scores"].get(model)) for model in shown]
        for signal in signals:
            ours, theirs = row["signals"].get(signal), asked.get("signals", {}).get(signal)
            bracket = "" if theirs is None else f" ({theirs:g})"
            scores.append("" if ours is None else f"{100 * ours:.1f}{bracket}")
        if searched:
            scores += [_percent(row.get("search", {}).get(name)) for name in SEARCH]
        copies = "" if row["test_copies"] is None else f" ({row['test_copies']})"
        lines.append(
            f"| {name} | {claimed} | " + " | ".join(scores) + f" | {row['test_images']}{copies} | {row['epochs']} |"
        )
    lines += ["", *_chosen(described, rows), *_leak(rows, shown), "How each was made:", ""]
    for name, row in rows.items():
        if row.get("status") == "done":
            versions = ", ".join(f"{package} {number}" for package, number in row["versions"].items())
            there = row.get("pretrained")  # perhaps elsewhere, and brought back
            pretrained = f"pretrained on {there['device']} with torch {there['torch']}, " if there else ""
            lines.append(
                f"- `{name}`: `{row['command']}`; {row['minutes']:.1f} minutes (stages in DVC's cache cost none), "
                f"{pretrained}{row['hardware']}, Python {row['python']}, {versions}, commit {row['commit']}, "
                f"{row['date']}"
            )
    return "\n".join(lines) + "\n"


def _smaller(rows: dict[str, dict[str, Any]]) -> list[str]:
    """The settings with which all rows departed from the preset."""
    given = [row["settings"] for row in rows.values() if row.get("settings")]
    common = [f"`{one}`" for one in (given[0] if given else []) if all(one in other for other in given)]
    return [f"Not as in the preset, in all rows that were run: {', '.join(common)}.", ""] if common else []


def _chosen(described: dict[str, Any], rows: dict[str, dict[str, Any]]) -> list[str]:
    """Of a list without a claim: which row and model the validation side would have chosen."""
    found = [
        (score["validation"], name, model)
        for name, row in rows.items()
        for model, score in row.get("scores", {}).items()
        if "validation" in score
    ]
    if not found or any("claimed" in run for run in described["runs"].values()):
        return []
    best, name, model = max(found)
    test = _percent(rows[name]["scores"][model])
    return [f"Chosen by validation accuracy ({100 * best:.1f}): `{name}`, {MODELS[model]}, test {test}.", ""]


def difference(one: dict[str, float], other: dict[str, float]) -> dict[str, float]:
    """One share minus another of an independent sample, with the interval that follows from their own.

    Zou and Donner, Statistics in Medicine 27 (2008), section 2: the limits need not lie symmetrically.
    """
    value = one["value"] - other["value"]
    below = ((one["value"] - one["low"]) ** 2 + (other["high"] - other["value"]) ** 2) ** 0.5
    above = ((one["high"] - one["value"]) ** 2 + (other["value"] - other["low"]) ** 2) ** 0.5
    return {"value": value, "low": value - below, "high": value + above}


def _pairs(rows: dict[str, dict[str, Any]]) -> dict[str, dict[str, dict[str, Any]]]:
    """Runs that were done under both protocols, by their name without it."""
    done = {name: row for name, row in rows.items() if row.get("status") == "done"}
    stems = [name.removesuffix("-random") for name in done if name.endswith("-random")]
    return {
        stem: {protocol: done[f"{stem}-{protocol}"] for protocol in PROTOCOLS}
        for stem in stems
        if f"{stem}-grouped" in done
    }


def _leak(rows: dict[str, dict[str, Any]], shown: Sequence[str]) -> list[str]:
    """What a random split adds, for the runs of both protocols."""
    pairs = _pairs(rows)
    if not pairs:
        return []
    lines = [
        "Random minus grouped, in points; the test images differ, and the interval follows from the two figures' own "
        "(Zou and Donner 2008):",
        "",
        "| run | " + " | ".join(map(_heading, shown)) + " |",
        "|---" * (len(shown) + 1) + "|",
    ]
    for stem, pair in pairs.items():
        both = [[pair[protocol]["scores"].get(model) for protocol in PROTOCOLS] for model in shown]
        cells = ["" if None in scores else _percent(difference(*scores)) for scores in both]
        lines.append(f"| {stem} | " + " | ".join(cells) + " |")
    return [*lines, ""]


def _twins(results: Path) -> list[tuple[str, dict[str, Any], float | None]]:
    """Runs of both protocols, as (name without the protocol, {protocol: row}, claim), of all papers."""
    found = []
    for path in sorted(results.glob("*.json")):
        content = read_json(path)
        for stem, pair in _pairs(content.get("runs", {})).items():
            found.append((f"{path.stem}: {stem}", pair, pair["random"].get("claimed")))
    return found


def headline(root: Path) -> None:
    """Write the README's table, between its two markers, and ``docs/papers.png`` from ``results/*.json``.

    Raises:
        UserError: the README has no markers.
    """
    readme = root / "README.md"
    text = readme.read_text(encoding="utf-8")
    if not (START in text and END in text):
        raise UserError(f"got {readme} without {START} and {END}; expected both around the table; put them back")
    twins = _twins(root / "results")
    lines = [
        "| | claimed | random split | grouped split | test images with a copy on the training or unlabelled side "
        "| not as in the paper |",
        "|---|---|---|---|---|---|",
    ]
    for name, pair, claim in twins:
        scores = [_percent(papers_figure.compared(pair[protocol])) for protocol in PROTOCOLS]
        copies = [f"{row['test_copies']} of {row['test_images']}" for row in pair.values()]
        changed = [f"`{one}`" for one in pair["random"]["settings"] if one.split("=")[0] in SCALE]
        lines.append(
            f"| [{name}](results/{name.split(':')[0]}.md) | {'' if claim is None else f'{claim:g}'} | "
            f"{' | '.join(scores)} | {', '.join(copies)} | {', '.join(changed)} |"
        )
    before, after = text.split(START)[0], text.split(END)[1]
    write_text(readme, before + START + "\n" + "\n".join(lines) + "\n" + END + after)
    papers_figure.draw(twins, root / "docs/papers.png")


def run_paper(
    root: Path, name: str, only: Sequence[str] = (), settings: Sequence[str] = (), side_by_side: int | None = None
) -> None:
    """Run a paper's list, or some of it, and write its results after every run.

    Args:
        root: project folder.
        name: of a file in ``papers/``.
        only: names of runs; all by default.
        settings: more of ``-S``, for every run: a smaller backbone or fewer epochs, where a machine needs them.
        side_by_side: train so many at once first, see :mod:`tumorxai.tools.offline.sweep`; None: one after the other.

    Raises:
        UserError: there is no such paper or run, or a run has failed; the others were run.
    """
    described = describe(name, root / "papers")
    asked_for = plan.of_paper(described, only, settings)
    path = root / "results" / f"{name}.json"
    rows: dict[str, dict[str, Any]] = read_json(path)["runs"] if path.exists() else {}
    stopped = {} if side_by_side is None else sweep.failed(*sweep.sweep(root, asked_for, side_by_side))
    failed = []
    for run_name, asked in ((one.name, list(one.settings)) for one in asked_for):
        print(f"{name}: {run_name}", file=sys.stderr)
        try:
            if run_name in stopped:
                raise UserError(stopped[run_name])
            rows[run_name] = rerun(root, f"{name}-{run_name}", described, asked)
            rows[run_name] |= {
                "settings": list(settings),
                "claimed": described["runs"][run_name].get("claimed"),
                "compared": described["compared"],
            }
        except UserError as error:
            print(f"{run_name}: {error}", file=sys.stderr)
            rows[run_name] = {"status": "failed"}
            failed.append(run_name)
        rows = {one: rows[one] for one in described["runs"] if one in rows}
        write_json(path, {"title": described["title"], "preset": described["preset"], "runs": rows})
        write_text(path.with_suffix(".md"), table(described, rows))
    headline(root)
    if failed:
        raise UserError(f"{', '.join(failed)} of {name} failed; the output stands above; correct it and run again")


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paper", help="a file of papers/")
    parser.add_argument("--only", nargs="+", default=[], metavar="RUN", help="names of runs; default: all")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="more settings, for every run")
    parser.add_argument("--side-by-side", type=int, metavar="N", help="train N at once first; 0: as many as fit")
    given = parser.parse_args()
    run_paper(Path(), given.paper, given.only, given.set, given.side_by_side)


if __name__ == "__main__":
    run(main)
