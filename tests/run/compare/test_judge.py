"""Like is compared with like, the tests say what they should, and every name can be read."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cbook import is_math_text
from matplotlib.figure import Figure
from matplotlib.text import Text

from tumorxai.base.predictions import IMAGE, Predictions
from tumorxai.run.compare import entrants, figures, tables
from tumorxai.run.compare.entrants import Entrant, named
from tumorxai.run.compare.judge import Side, cliques, judge, over_seeds, rows

N, K = 400, 3
CLASSES = ("a", "b", "c")


def predictions(accuracy: float, seed: int, images: int = N) -> Predictions:
    """A classifier of the given accuracy on one and the same test side of twice as many images as clusters."""
    table = pd.DataFrame(dict.fromkeys(IMAGE, ""), index=range(images))
    table = table.assign(
        path=[f"{i}.png" for i in range(images)], source="s", side="test", cluster=np.arange(images) // 2
    )
    truth = np.arange(images) // 2 % K
    generator = np.random.default_rng(seed)
    said = np.where(generator.random(images) < accuracy, truth, (truth + 1) % K)
    table["label"] = np.array(CLASSES)[truth]
    return Predictions(table, CLASSES, truth, 0.7 * np.eye(K)[said] + 0.1)


def entrant(accuracy: float, draw: int, protocol: str = "linear", **params: Any) -> Entrant:
    given = {"method": "simclr", "seed": "0"} | {key: str(value) for key, value in params.items()}
    return Entrant(protocol, (f"e{draw}",), given, predictions(accuracy, draw))


def test_the_better_comes_first_and_only_clear_differences_part_them() -> None:
    every = named(
        [
            entrant(0.6, 0, method="byol"),
            entrant(0.9, 1),
            entrant(0.88, 2, protocol="finetune"),
            entrant(0.58, 3, method="dino"),
        ]
    )
    assert [e.model for e in every] == [
        "linear probe, BYOL",
        "linear probe, SimCLR",
        "fine-tuned",
        "linear probe, DINO",
    ]
    side = judge("x", every)
    accuracies = [own["accuracy"]["value"] for own in side.scores]
    assert accuracies == sorted(accuracies, reverse=True)
    assert len(side.pairs) == 6
    outside = (side.pairs["accuracy_low"] > 0) | (side.pairs["accuracy_high"] < 0)
    assert ((side.pairs["p"] < 0.05) == outside).all()
    assert cliques(side) == [(0, 1), (2, 3)]
    assert [own["value"] for own in side.ranks] == [1, 2, 3, 4]
    assert [(own["low"], own["high"]) for own in side.ranks] == [(1, 2), (1, 2), (3, 4), (3, 4)]
    board = rows([side])
    assert list(board["rank"]) == [1, 2, 3, 4]
    assert (board["rank_low"] <= board["rank"]).all()
    assert (board["accuracy_low"] < board["accuracy"]).all()
    assert set(board["clusters"]) == {200}
    assert set(zip(board["model"], board["settings"], strict=True)) >= {
        ("fine-tuned", ""),
        ("linear probe, DINO", "method=dino"),
    }


def test_equal_classifiers_share_one_bar() -> None:
    side = judge("x", [entrant(0.8, seed, method=f"m{seed}") for seed in range(4)])
    assert cliques(side) == [(0, 3)]


def test_the_test_side_is_known_by_its_images_labels_and_clusters() -> None:
    one = entrant(0.8, 0)
    assert entrants.test_side(one) == entrants.test_side(entrant(0.5, 1))

    def changed(**columns: Any) -> str:
        own = one.test
        other = Predictions(own.table.assign(**columns), own.classes, own.truth, own.probabilities)
        return entrants.test_side(Entrant("linear", ("e",), {}, other))

    assert changed(cluster=np.arange(N) // 2 + 7) == entrants.test_side(one)  # only another numbering
    assert changed(cluster=np.arange(N)) != entrants.test_side(one)
    assert changed(label=np.roll(one.test.table["label"], 1)) != entrants.test_side(one)
    assert changed(source="other") != entrants.test_side(one)


def test_seeds_are_summed_up_and_not_tested() -> None:
    one = [entrant(accuracy, seed, seed=seed) for seed, accuracy in enumerate((0.7, 0.8))] + [
        entrant(0.6, 9, method="byol")
    ]
    sides = [judge(str(i), [own]) for i, own in enumerate(named(one))]
    found = over_seeds(sides)
    assert found["model"].tolist() == ["linear probe, SimCLR"]
    row = found.iloc[0]
    values = [side.scores[0]["accuracy"]["value"] for side in sides[:2]]
    assert row["seeds"] == 2
    assert row["accuracy"] == pytest.approx(np.mean(values), abs=1e-6)
    assert row["sd"] == pytest.approx(np.std(values, ddof=1), abs=1e-6)
    for end in ("low", "high"):
        assert row[end] == pytest.approx(np.mean([side.scores[0]["accuracy"][end] for side in sides[:2]]), abs=1e-6)
    text = tables.markdown(rows(sides), sides, found, ["old: nothing"])
    assert "## Over seeds" in text
    assert f"| {100 * row['sd']:.1f} | {100 * row['low']:.1f} to {100 * row['high']:.1f} | no |" in text
    assert "- old: nothing" in text
    assert over_seeds(sides[:1]).empty


def test_seeds_that_scatter_more_than_the_intervals_say_are_not_the_same() -> None:
    for accuracies, same in (((0.1, 0.9, 0.5), False), ((0.7, 0.7, 0.7), True)):
        every = [entrant(accuracy, 3, seed=seed) for seed, accuracy in enumerate(accuracies)]
        found = over_seeds([judge(str(i), [own]) for i, own in enumerate(named(every))])
        assert found["same"].tolist() == [same]


def test_runs_that_differ_in_what_a_short_name_leaves_out_are_not_averaged() -> None:
    settings = [{f"p.{key}": value for key in "abcde"} for value in (1, 2)]
    every = [entrant(0.7, 2 * i + seed, seed=seed, **own) for i, own in enumerate(settings) for seed in range(2)]
    assert over_seeds([judge("x", named(every))])["seeds"].tolist() == [2, 2]


def outside(figure: Figure) -> list[str]:
    """Texts of which a part lies outside the picture."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    frame = figure.bbox
    beyond = set()  # ticks beyond the axes, which are not drawn
    for axis in (axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)):
        low, high = sorted(axis.get_view_interval())
        beyond |= {tick.label1 for tick in axis.get_major_ticks() if not low <= tick.get_loc() <= high}
    found = []
    for text in figure.findobj(Text):
        if text.get_text().strip() and text.get_visible() and text not in beyond:
            box = text.get_window_extent(canvas.get_renderer())
            if box.x0 < 0 or box.y0 < 0 or box.x1 > frame.x1 or box.y1 > frame.y1:
                found.append(text.get_text())
    return found


LONG = "a label of words, " * 6 + "and an end."
SPLIT = "without-any-place-to-break-it-" * 4


def long_side(label: str, name: str = "x") -> Side:
    every = [entrant(0.6 + 0.1 * i, i, **{"data.sources": f"['{label}{i}']"}) for i in range(3)]
    return judge(name, named(every))


@pytest.mark.parametrize("label", [LONG, SPLIT, 2 * SPLIT, "cost in $ and $", "short"])
def test_labels_are_never_cut(label: str) -> None:
    assert len(LONG) >= 119
    assert len(SPLIT) == 120
    one = long_side(label)
    other = judge("y", named([entrant(0.5, 8, **{"data.sources": f"['{label}']", "split.seed": label})]))
    for sides in ([one], [one, other]):
        for figure in (figures.rank_figure(sides), figures.score_figure(sides)):
            assert outside(figure) == []
            assert min(axes.get_window_extent().width for axes in figure.axes) > 200  # pixels: they give no way
            for axes in figure.axes:
                boxes = [label.get_window_extent() for label in axes.get_yticklabels() if label.get_visible()]
                assert all(upper.y0 >= lower.y1 for upper, lower in pairwise(boxes))
            assert not any(is_math_text(text.get_text()) for text in figure.findobj(Text))
            drawn = " ".join(text.get_text() for text in figure.findobj(Text)).replace("\n", " ").replace(r"\$", "$")
            for own in one.entrants:
                assert own.model in drawn


def test_a_label_outside_would_be_noticed() -> None:
    figure = Figure(figsize=(3, 3))
    figure.text(0.5, 0.5, LONG)
    assert outside(figure) == [LONG]


def test_the_terminal_is_not_overrun_and_no_name_is_cut() -> None:
    sides = [long_side(LONG), long_side(SPLIT, "y")]
    text = tables.terminal(rows(sides))
    assert max(map(len, text.splitlines())) <= 100
    names = "".join(line[47:78].strip() for line in text.splitlines())
    for side in sides:
        for own in side.entrants:
            assert own.model.replace(" ", "") in names.replace(" ", "")
