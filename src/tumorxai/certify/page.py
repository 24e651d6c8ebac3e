"""The audit as one self-contained page."""

from __future__ import annotations

import base64
import io
import zipfile
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from tumorxai.archives.archives import read
from tumorxai.archives.images import Fit, decode, fit_image
from tumorxai.archives.sources import archive_name
from tumorxai.audit.audit import CROSSINGS
from tumorxai.audit.verdict import LEAKING
from tumorxai.certify.assess import Audited
from tumorxai.certify.judge import telling
from tumorxai.report import words

TILE = 176  # side of a drawn image, pixels
WORDS = {"exact": "The same pixels", "near": "Near copy", "second": "Copy by the second search alone"}
LISTED = 20  # files of each list on the page


def ends(crossing: str) -> tuple[str, str]:
    """What a key of ``CROSSINGS`` is called."""
    before, after = CROSSINGS[crossing]
    return {"train": "training", "validation": "validation"}[before[0]], after


def points(value: float | None) -> str:
    """A difference of shares, in percentage points."""
    return "–" if value is None else f"{100 * value:+.1f}"


def picture(archive: Path, path: str) -> str:
    """An image of an archive as a ``data:`` address; colour only where it has some."""
    with zipfile.ZipFile(archive) as opened:
        image = decode(read(opened, opened.getinfo(path))).image
    pixels = fit_image(image, Fit(TILE, 3, "pad")).transpose(1, 2, 0)
    grey = bool((np.ptp(pixels, axis=2) == 0).all())
    stream = io.BytesIO()
    Image.fromarray(pixels[:, :, 0] if grey else pixels).save(stream, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode("ascii")


def pairs(audited: Audited, archives: Path) -> list[dict[str, Any]]:
    """What is drawn of the most telling pairs."""
    source = audited.table["source"]
    drawn = []
    for row in telling(audited.across).to_dict(orient="records"):
        images = [
            {
                "picture": picture(archives / archive_name(source[row[f"image_{end}"]]), row[f"file_{end}"]),
                **{key: row[f"{key}_{end}"] for key in ("file", "label", "side")},
            }
            for end in ("a", "b")
        ]
        kind, _, two = row["what"].partition(", ")
        what = WORDS[kind] + (f" under {two}" if two else "")
        drawn.append(
            {"what": what, "turned": "" if row["orientation"] == "as is" else row["orientation"], "images": images}
        )
    return drawn


def render(audited: Audited, drawn: list[dict[str, Any]], digest: str) -> str:
    """The page's HTML.

    Args:
        audited: what was found.
        drawn: by :func:`pairs`.
        digest: of the certificate.
    """
    summary = audited.summary
    left_out = audited.left_out
    off = audited.table["path"][audited.table["side"] == ""]
    settings = [*((f"dedupe.{key}", value) for key, value in summary["detector"].items()), *summary["versions"].items()]
    return words.fill(
        "audited.html.j2",
        found=summary,
        leaking=summary["verdict"] == LEAKING,
        ends={name: ends(name) for name in CROSSINGS},
        inflation={key: points(value) for key, value in summary["pixel_neighbour"]["inflation"].items()},
        labels=sorted({label for classes in summary["sides"].values() for label in classes}),
        pairs=drawn,
        across=len(audited.across),
        left_out=_first(zip(left_out["path"], left_out["reason"], strict=True)),
        left_out_total=len(left_out),
        unmatched=_first(audited.split.unmatched),
        without_side=_first((path, "the split does not name it") for path in off),
        settings=settings,
        digest=digest,
        written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )


def _first(rows: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    return [row for row, _ in zip(rows, range(LISTED), strict=False)]


def left_out(audited: Audited) -> pd.DataFrame:
    """Everything that the audit does not stand on: files, rows and images, each with the reason."""
    unmatched = pd.DataFrame(audited.split.unmatched, columns=["path", "reason"]).assign(what="row of the table")
    off = audited.table[audited.table["side"] == ""]
    no_side = pd.DataFrame(
        {"path": off["path"], "reason": "the split does not name it", "what": "image without a side"}
    )
    files = audited.left_out.assign(what="file")
    return pd.concat([files, unmatched, no_side], ignore_index=True)[["what", "path", "reason"]]
