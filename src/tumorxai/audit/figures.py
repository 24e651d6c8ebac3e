"""What the audit found, as a picture, its title in words, and the picture's numbers as a table."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tumorxai.audit.leak import PARTS
from tumorxai.base.drawing import BLUE, GREY, SKY, VERMILION, plain


def _percent(value: float) -> str:
    return f"{100 * value:.0f} %"


def _draw_copies(axes: Axes, found: dict[str, Any]) -> None:
    for row, protocol in enumerate(found.values()):
        counts = protocol["crossings"]["train_test"]
        exact, copies = (100 * counts[key] / max(1, counts["images"]) for key in ("exact_copies", "copies"))
        first = row == 0
        axes.barh(row, exact, height=0.55, color=BLUE, label="identical pixels" if first else None)
        axes.barh(row, copies - exact, 0.55, exact, color=SKY, label="similar" if first else None)
        axes.text(copies + 2, row, f"{copies:.0f} %", va="center")
    axes.set(title="Test images with a copy in training", xlabel="% of test images", xlim=(0, 119))


def _draw_canary(axes: Axes, found: dict[str, Any]) -> None:
    subsets = (("all", -0.14, BLUE, "o", "all test images"), ("no_copy", 0.14, VERMILION, "D", "those without a copy"))
    for row, protocol in enumerate(found.values()):
        for subset, offset, colour, marker, label in subsets:
            _draw_score(
                axes, row + offset, protocol["canary"][subset], "accuracy", colour, marker, label if not row else None
            )
        if protocol["canary"]["all"]["images"]:
            majority = 100 * protocol["canary"]["all"]["majority"]
            named = None if row else "most frequent class"
            axes.plot([majority] * 2, [row - 0.35, row + 0.35], ":", color=GREY, label=named)
    axes.set(title="Nearest neighbour on raw pixels", xlabel="accuracy, %, with 95 % interval", xlim=(0, 119))


def _draw_score(
    axes: Axes, row: float, found: dict[str, Any], key: str, colour: str, marker: str, label: str | None
) -> None:
    if not found["images"] or found[key] is None:
        return
    value, low, high = (100 * found[name] for name in (key, f"{key}_low", f"{key}_high"))
    axes.plot([low, high], [row, row], color=colour, linewidth=2)
    axes.plot([value], [row], marker, color=colour, linestyle="", markersize=6, label=label)
    axes.text(max(value, high) + 3, row, f"{value:.0f}", va="center", fontsize=9)


def _draw_probes(axes: Axes, metrics: dict[str, Any]) -> None:
    probes = {name: found for name, found in metrics["probes"].items() if found is not None}
    for row, found in enumerate(probes.values()):
        _draw_score(axes, row, found, "auc", VERMILION if found.get("gives_classes_away") else GREY, "o", None)
    axes.axvline(50, linestyle=":", color=GREY, label="chance")
    axes.set_yticks(range(len(probes)), [name.replace("_", " ") for name in probes])
    axes.set(
        title=f"Shortcuts alone ({metrics['probes_protocol']} split)",
        xlabel="area under the ROC curve, %",
        xlim=(0, 119),
    )


def figure(metrics: dict[str, Any]) -> Figure:
    """Draw what :func:`audit` found: copies across the sides, what they are worth, and the shortcuts."""
    found = {name: protocol for name, protocol in metrics["protocols"].items() if "canary" in protocol}
    drawn = Figure(figsize=(13, 4.6), layout="constrained")
    left, middle, right = drawn.subplots(1, 3)
    _draw_copies(left, found)
    _draw_canary(middle, found)
    _draw_probes(right, metrics)
    for axes in (left, middle):
        names = [f"{name}\n(in force)" if name == metrics["protocol"] else name for name in found]
        axes.set_yticks(range(len(found)), names)
    for axes in (left, middle, right):
        axes.set_ylim(len(axes.get_yticks()) - 0.5, -0.5)  # the first row on top
        axes.set_xticks(range(0, 101, 20))
        plain(axes, grid=False)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2, frameon=False, fontsize=8.5)
    drawn.suptitle(title(metrics), fontsize=13, fontweight="bold")
    return drawn


def title(metrics: dict[str, Any]) -> str:
    """The finding in words."""
    accuracies = [
        f"{name} {_percent(protocol['canary']['all']['accuracy'])}"
        for name, protocol in sorted(metrics["protocols"].items(), reverse=True)
        if protocol.get("canary", {}).get("all", {}).get("accuracy") is not None
    ]
    away = [name for name, found in metrics["probes"].items() if found and found.get("gives_classes_away")]
    shortcuts = f"Classes given away by {', '.join(away).replace('_', ' ')}" if away else "No shortcut found"
    return f"Pixel nearest neighbour, nothing learned: {', '.join(accuracies) or 'no images'}\n{shortcuts}"


def parts(leak: dict[str, Any]) -> Figure:
    """Draw what the leak is made of: accuracy of the pixel neighbour, and how many different images it has seen."""
    drawn = Figure(figsize=(11, 1.5 + 0.6 * len(leak["parts"])), layout="constrained")
    left, right = drawn.subplots(1, 2, width_ratios=(3, 2), sharey=True)
    for row, (name, part) in enumerate(leak["parts"].items()):
        colour, value, spread = VERMILION if name == "random" else BLUE, 100 * part["accuracy"], 100 * (part["sd"] or 0)
        left.plot([value - spread, value + spread], [row, row], color=colour, linewidth=2)
        left.plot([value], [row], "o", color=colour, markersize=6)
        left.text(value + spread + 1.5, row, f"{value:.1f}", va="center", fontsize=9)
        for shift, side, own in ((-0.16, "train", BLUE), (0.16, "test", SKY)):
            right.barh(row + shift, part[f"{side}_groups"], 0.3, color=own, label=None if row else side)
    low = min(100 * (part["accuracy"] - (part["sd"] or 0)) for part in leak["parts"].values())
    left.set(title="Nearest neighbour on raw pixels", xlabel=f"accuracy, %, mean and SD of {leak['seeds']} splits")
    left.set_xlim(max(0, low - 5), 106)
    left.set_yticks(range(len(leak["parts"])), [PARTS[name].replace(", ", ",\n", 1) for name in leak["parts"]])
    left.set_ylim(len(leak["parts"]) - 0.5, -0.5)
    right.set(title="Different images seen", xlabel="groups of copies on a side, mean")
    right.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2, frameon=False, fontsize=8.5)
    for axes in (left, right):
        plain(axes)
    return drawn


def part_rows(leak: dict[str, Any]) -> pd.DataFrame:
    """The numbers of :func:`parts`, one row for each part."""
    return pd.DataFrame([{"part": name, **part} for name, part in leak["parts"].items()])


def rows(metrics: dict[str, Any]) -> pd.DataFrame:
    """The figure's numbers, one row each, for ``dvc plots``."""
    rows = [
        {"check": f"canary, {subset}", "protocol": name, "measure": "accuracy", "found": found}
        for name, protocol in metrics["protocols"].items()
        for subset, found in protocol.get("canary", {}).items()
    ] + [
        {"check": name, "protocol": metrics["probes_protocol"], "measure": "auc", "found": found}
        for name, found in metrics["probes"].items()
    ]
    for row in rows:
        found, key = row.pop("found") or {}, row["measure"]
        row |= {"images": found.get("images", 0), "score": found.get(key), "low": found.get(f"{key}_low")}
        row |= {"high": found.get(f"{key}_high")}
    return pd.DataFrame(rows)
