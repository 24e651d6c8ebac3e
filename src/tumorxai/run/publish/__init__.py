"""A finished run as one folder in the layout of the Hugging Face Hub: weights, cards, checklist, certificate, example.

It holds no image, and nothing that names a path of this machine; a certificate names the files of the data.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tumorxai import config
from tumorxai.audit.verdict import LEAKING
from tumorxai.certify import certificate
from tumorxai.errors import UserError
from tumorxai.files import atomic, read_json, write_text
from tumorxai.networks import classifier, encoders
from tumorxai.networks.classifier import Classifier
from tumorxai.report import cards
from tumorxai.report.cards import Published
from tumorxai.report.facts import Facts, gather
from tumorxai.result.calibration import fitted_temperature
from tumorxai.run.publish import timm_format
from tumorxai.run.publish.timm_format import CONFIG, WEIGHTS

CARD, EXAMPLE, CERTIFICATE = "model.json", "example.py", "certificate.json"
# All that a folder may hold; what of these an earlier one had and a new one has not goes from the hub.
WRITTEN = [
    *("README.md", "dataset_card.md", "claim.md", CERTIFICATE, EXAMPLE),
    *(f"{below}{name}" for below in ("", "classifier/") for name in (CONFIG, WEIGHTS, CARD)),
]


@dataclass(frozen=True)
class Folder:
    """What was written.

    Attributes:
        files: names, sorted.
        not_timm: of ``encoder`` and ``classifier``, those that timm cannot load, with the reason.
        verdict: level of the split.
    """

    files: list[str]
    not_timm: dict[str, str]
    verdict: str


def write(
    root: Path, folder: Path, repository: str = "", certified: Path | None = None, although_leaking: bool = False
) -> Folder:
    """Write the folder: whole, or not at all.

    Args:
        root: the project's folder, with a finished run.
        folder: absent or empty.
        repository: ``OWNER/NAME`` on the hub, for the card; empty where it is not known.
        certified: the certificate; None takes ``certificate.json`` of ``root`` where there is one, unless a source is
            the user's own, whose file names it would give away.
        although_leaking: write it even where the split leaks, which the card says.

    Raises:
        UserError: the run is not finished, its parts do not belong together, its split leaks, or the folder is taken.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"got {folder}, which is not empty; expected a new or an empty folder; choose another name")
    params = config.load(root / "params.yaml")
    encoder, card = encoders.load(root / "models" / "encoder.safetensors")
    network = classifier.load(root / "models" / "finetuned.safetensors")
    facts = gather(root, params)
    _one_run(root, facts, card, read_json(root / "models" / "finetuned.json"))
    level = _judged(facts, although_leaking)
    certified = _certificate(root, facts, certified)
    licence = cards.licence(facts)
    with atomic(folder) as made:
        made.mkdir()
        shown = {"pretrained_cfg": timm_format.described(card, params.data.fit, licence)}
        told = {"encoder": timm_format.write(encoder, card, shown, made)}
        told["classifier"] = _classifier(root, network, facts, made / "classifier")
        not_timm = {name: reason for name, reason in told.items() if reason}
        if "encoder" in not_timm:
            shutil.copyfile(root / "models" / "encoder.safetensors", made / WEIGHTS)
        shutil.copyfile(root / "models" / "encoder.json", made / CARD)
        if not not_timm:
            shutil.copyfile(Path(__file__).with_name(EXAMPLE), made / EXAMPLE)
        if certified is not None:
            shutil.copyfile(certified, made / CERTIFICATE)
        published = Published(repository, not_timm, certified is not None)
        texts = cards.texts(facts, published)
        write_text(made / "README.md", texts["model_card.md"])
        write_text(made / "dataset_card.md", texts["dataset_card.md"])
        write_text(made / "claim.md", cards.checklist(facts, published))
        found = sorted(path.relative_to(made).as_posix() for path in made.rglob("*") if path.is_file())
    return Folder(found, not_timm, level)


def _classifier(root: Path, network: Classifier, facts: Facts, folder: Path) -> str:
    """Write the classifier as timm loads it, else as we do; gives why not the former."""
    card = read_json(root / "models" / "finetuned.json")
    own = {
        "pretrained_cfg": timm_format.described(card, facts.params.data.fit, cards.licence(facts)),
        "label_names": list(network.classes),
        "temperature": fitted_temperature(root / "details" / "calibration.json"),  # that the logits are divided by
    }
    reason = timm_format.write(network, card, own, folder)
    if reason:
        folder.mkdir(exist_ok=True)
        shutil.copyfile(root / "models" / "finetuned.safetensors", folder / WEIGHTS)
        shutil.copyfile(root / "models" / "finetuned.json", folder / CARD)
    return reason


def _one_run(root: Path, facts: Facts, card: dict[str, Any], trained: dict[str, Any]) -> None:
    """See that parameters, audit and weights are of one run.

    Raises:
        UserError: they are not.
    """
    params, audited = facts.params, root / "data" / "audited.json"
    wanted = {
        "method": (card.get("method"), params.method),
        "backbone": (card["timm"], params.model.backbone),
        "backbone of the classifier": (trained["timm"], params.model.backbone),
        "checksum of data/split.csv": (
            card.get("data", {}).get("split.csv"),
            read_json(audited).get("split") if audited.exists() else None,
        ),
    }
    for name, (got, expected) in wanted.items():
        if got is None or got != expected:
            raise UserError(
                f"{root / 'models'}: got weights with the {name} {got}; expected {expected}, as params.yaml and the "
                "audit have it; run `dvc repro`"
            )


def _judged(facts: Facts, although_leaking: bool) -> str:
    """The verdict on the split.

    Raises:
        UserError: there is none, or the split leaks and that is not meant.
    """
    if facts.verdict is None:
        raise UserError("got a run without a verdict on its split; expected an audit; run `dvc repro audit`")
    if facts.leaky and not although_leaking:
        raise UserError(
            f"got a split that leaks, by protocol {facts.params.split.protocol} ({facts.verdict['sentence']}); "
            "expected one without; choose another split.protocol, or add --although-leaking, which the card then says"
        )
    return LEAKING if facts.leaky else str(facts.verdict["level"])


def _certificate(root: Path, facts: Facts, given: Path | None) -> Path | None:
    """The certificate that goes along, if any.

    Raises:
        UserError: it was altered, or is of another split than this run's.
    """
    found = root / CERTIFICATE
    if given is None and (facts.own or not found.exists()):
        return None
    path = given or found
    own, digest = certificate.load(path)
    split = facts.metrics["split"]
    sides = {name: side["images"] for name, side in split["sides"].items() if name != "dropped"} if split else {}
    counts = {name: sum(one.side == name for one in own.images) for name in sides}
    if digest != own.sha256 or counts != sides:
        raise UserError(
            f"got {path}, which is not of this run's split as it is now; expected its own; run `tumorxai certify`"
        )
    return path
