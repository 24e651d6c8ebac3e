"""The audit of somebody's split: nothing is trained, nothing of the project is needed."""

from __future__ import annotations

from pathlib import Path

from tumorxai.certify import certificate, page, sides
from tumorxai.certify.assess import SETTINGS, Audited, assess
from tumorxai.certify.gather import gather, listed, opened
from tumorxai.errors import UserError
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
    if out.exists() and not out.is_dir():
        raise UserError(f"--out: got {out}, which is a file; expected a folder; choose another")
    with opened([source]) as (archives, names):
        paths = listed(archives, names)  # a mistake in the table is told before the images are read
        given = sides.by_table(paths, split, columns) if split else sides.by_folders(paths)
        sides.check(given.side.values(), given.origin)
        with gather(archives, names, SETTINGS, given.patient, workers) as found:
            audited = assess(found, given, source.resolve().name)
            drawn = page.pairs(audited, archives)
    signed = certificate.make(audited.table, audited.left_out, audited.summary, given.origin)
    html = page.render(audited, drawn, signed["sha256"])
    try:
        write_csv(out / "copies.csv", audited.across)
        write_csv(out / "left_out.csv", page.left_out(audited))
        write_json(out / "audit.json", audited.summary | {"certificate": signed["sha256"]})
        write_text(out / "index.html", html)
        certificate.write(out / "certificate.json", signed)
    except OSError as error:
        raise UserError(f"--out: got {out}, and writing there failed ({error.strerror}); choose another") from None
    return audited
