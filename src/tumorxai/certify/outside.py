"""The audit of somebody's split: nothing is trained, nothing of the project is needed."""

from __future__ import annotations

from pathlib import Path

from tumorxai.certify import certificate, page, sides
from tumorxai.certify.assess import SETTINGS, Audited, assess
from tumorxai.certify.gather import gather
from tumorxai.files import write_csv, write_json, write_text


def audit(
    source: Path, split: Path | None, columns: tuple[str, str] | None, out: Path, workers: int | None = None
) -> Audited:
    """Audit the split of a folder or zip of class folders; nothing is written unless all of it could be looked at.

    Args:
        source: the folder or zip.
        split: table of the sides; None to go by the folders.
        columns: names of the table's columns of files and sides, where they differ.
        out: folder that receives ``index.html``, ``audit.json``, ``certificate.json``, ``copies.csv`` and
            ``left_out.csv``.
        workers: processes; one per core if None.

    Raises:
        UserError: the images or the split cannot be used.
    """
    with gather([source], SETTINGS, workers) as found:
        paths = list(found.table["path"])
        given = sides.by_table(paths, split, columns) if split else sides.by_folders(paths)
        sides.check(given)
        audited = assess(found, given, source.resolve().name)
        drawn = page.pairs(audited, found.archives)
    signed = certificate.make(audited.table, audited.left_out, audited.summary, given.origin)
    html = page.render(audited, drawn, signed["sha256"])
    write_csv(out / "copies.csv", audited.across)
    write_csv(out / "left_out.csv", page.left_out(audited))
    write_json(out / "audit.json", audited.summary | {"certificate": signed["sha256"]})
    write_text(out / "index.html", html)
    certificate.write(out / "certificate.json", signed)
    return audited
