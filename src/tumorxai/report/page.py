"""The report: one self-contained HTML file of everything that a run measured."""

from __future__ import annotations

import importlib.metadata
import platform
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from tumorxai import __version__, config
from tumorxai.files import read_json, write_text
from tumorxai.report import figures

METRICS = (
    "catalogue",
    "dedupe",
    "split",
    "leakage",
    "pretrain",
    "linear",
    "finetune",
    "supervised",
    "knn",
    "random_linear",
    "pixel_neighbour",
    "comparisons",
    "calibration",
    "foreign",
    "explain",
    "search",
)
HEADLINES = {"linear": "Linear probe", "finetune": "Fine-tuned", "supervised": "Supervised from scratch"}
MODELS = HEADLINES | {
    "knn": "Nearest neighbours",
    "random_linear": "Random encoder, linear probe",
    "pixel_neighbour": "Pixel nearest neighbour",
}
PICTURES = ("catalogue", "dedupe", "audit", "scores", "robustness", "foreign", "errors", "cams", "search")
PACKAGES = ("torch", "torchvision", "timm", "lightly", "scikit-learn", "grad-cam", "qdrant-client", "dvc", "numpy")
FLOORS = {
    "map": "Grad-CAM",
    "uniform": "uniform map",
    "random": "random map",
    "centre": "centre Gaussian",
    "edges": "edge map",
}
LOCALISATION = {"energy": "energy inside the lesion", "pointing": "pointing game", "pixel_auroc": "pixel AUROC"}


def percent(value: float | None) -> str:
    """A share in [0, 1] for readers, with one decimal."""
    return "–" if value is None else f"{100 * value:.1f}\N{NARROW NO-BREAK SPACE}%"


def flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Dotted names and values of nested parameters."""
    for name, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from flatten(value, f"{prefix}{name}.")
        else:
            yield prefix + name, "paper's values" if value == {} else str(value)


def commit(root: Path) -> str | None:
    """The checked-out commit, where ``root`` is a git repository and git is installed."""
    git = shutil.which("git")
    if git is None or not (root / ".git").exists():
        return None
    found = subprocess.run([git, "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, check=False)  # noqa: S603
    return found.stdout.strip()[:12] or None


def environment() -> dict[str, str]:
    """Versions of what the results depend on."""
    versions = {"Python": platform.python_version(), "tumorxai": __version__}
    for name in PACKAGES:
        versions[name] = importlib.metadata.version(name)
    return versions


def _optional(path: Path) -> dict[str, Any] | None:
    return read_json(path) if path.exists() else None


def copies(leakage: Mapping[str, Any] | None) -> int | None:
    """Test images that have a copy on the training or the unlabelled side of the split in force."""
    if leakage is None:
        return None
    crossings = leakage["protocols"][leakage["protocol"]].get("crossings")
    return None if crossings is None else int(crossings["train_test"]["copies"])


def write(root: Path, out: Path, params: config.Params) -> None:
    """Write the report. What a run has not produced is missing from it with a sentence, never with a crash.

    Args:
        root: project folder with ``metrics/``, ``plots/`` and ``models/``.
        out: HTML to write.
        params: the experiment.
    """
    metrics = {name: _optional(root / "metrics" / f"{name}.json") for name in METRICS}
    catalogue, split = metrics["catalogue"], metrics["split"]
    predictions = {name: root / "plots" / name / "predictions.csv" for name in HEADLINES}
    pictures = {
        name: {path.stem: figures.data_uri(path) for path in sorted((root / "plots" / name).glob("*.png"))}
        for name in PICTURES
    }
    sources = [s if isinstance(s, str) else f"local/{s.name or Path(s.path).stem}" for s in params.data.sources]
    used = params.model_dump()
    used["methods"] = {params.method: params.methods[params.method]}
    used["data"] = {name: value for name, value in used["data"].items() if name != "phantom" or "phantom" in sources}
    used["data"]["sources"] = ", ".join(sources)  # a path of this machine is nobody else's business
    loader = Environment(loader=PackageLoader("tumorxai.report", "."), autoescape=True, undefined=StrictUndefined)
    loader.trim_blocks = loader.lstrip_blocks = True
    loader.filters["percent"] = percent
    page = loader.get_template("template.html.j2").render(
        params=params,
        parameters=list(flatten(used)),
        sources=sources,
        simulated="phantom" in sources,
        commit=commit(root),
        written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        versions=environment(),
        run=_optional(root / "models" / "pretrain_run.json"),
        headlines=HEADLINES,
        models=MODELS,
        floors=FLOORS,
        localisation=LOCALISATION,
        copies=copies(metrics["leakage"]),
        flow=figures.flow(catalogue, split) if catalogue and split else None,
        curves=figures.curves(root / "plots" / "pretrain"),
        confusions={name: figures.confusion(path) for name, path in predictions.items() if path.exists()},
        pictures=pictures,
        **metrics,
    )
    write_text(out, page)
