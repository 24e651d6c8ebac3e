"""The report: one self-contained HTML file of everything that a run measured."""

from __future__ import annotations

from pathlib import Path

from tumorxai.audit.leak import PARTS
from tumorxai.base.drawing import data_uri, undrawable
from tumorxai.base.glossary import REPORT, shown
from tumorxai.base.protocols import PROTOCOLS, Learns
from tumorxai.catalogue.shown import lines
from tumorxai.files import reading, write_text
from tumorxai.report import cards, claim, figures, words
from tumorxai.report.checks import checks, headline, titles
from tumorxai.report.facts import HEADLINES, MODELS, Facts, answer, pretraining
from tumorxai.report.flow import flow
from tumorxai.report.sections import SECTIONS
from tumorxai.report.terms import FLOORS, TERMS

PICTURES = ("catalogue", "dedupe", "audit", "views", "scores", "robustness", "foreign", "errors", "cams", "search")
LOCALISATION = {"energy": "energy inside the lesion", "pointing": "pointing game", "pixel_auroc": "pixel AUROC"}
TRAINED = {own.key: own.heading for own in PROTOCOLS.values() if own.learns == Learns.ALL}


def render(root: Path, out: Path, facts: Facts) -> None:
    """Write the report. What a run has not produced is missing from it with a sentence, never with a crash.

    Args:
        root: project folder with ``plots/``.
        out: HTML to write.
        facts: of the run.

    Raises:
        UserError: something that a stage wrote lacks what belongs into it.
    """
    with reading(root / "details", "what the stages wrote"):
        page = _page(root, facts)
    write_text(out, page)


def _page(root: Path, facts: Facts) -> str:
    predictions = {name: root / "plots" / name / "predictions.csv" for name in HEADLINES}
    pictures = {
        name: {path.stem: data_uri(path.read_bytes()) for path in sorted((root / "plots" / name).glob("*.png"))}
        for name in PICTURES
    }
    metrics = facts.metrics
    catalogue, split = metrics["catalogue"], metrics["split"]
    layouts = {
        name: lines(name, source["layout"], facts.params.data.taxonomy)
        for name, source in (catalogue or {"sources": {}})["sources"].items()
        if "layout" in source  # of a run before it was kept there is none
    }
    return words.fill(
        "template.html.j2",
        facts=facts,
        params=facts.params,
        answer=answer(facts),
        pretraining=pretraining(facts),
        checks=checks(facts),
        headline=headline(facts),
        terms=TERMS,
        cards=cards.texts(facts),
        sections=SECTIONS,
        headlines=HEADLINES,
        models=MODELS,
        scores=shown(REPORT),
        class_scores=shown(REPORT, of_class=True),
        floors=FLOORS,
        maps=titles(facts),
        localisation=LOCALISATION,
        leak_parts=PARTS,
        flow=flow(catalogue, metrics["dedupe"], split) if catalogue and split else None,
        layouts=layouts,
        curves=figures.curves(root / "plots" / "pretrain"),
        training=figures.training(root / "plots" / "training", TRAINED),
        confusions={name: figures.confusion(path) for name, path in predictions.items() if path.exists()},
        pictures=pictures,
        undrawable=undrawable(facts.classes),
        claim=claim.items(facts),
        claim_summary=claim.summary(facts),
        **metrics,
    )
