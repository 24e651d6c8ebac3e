"""What lies outside DVC's graph: the sources, the weights, and the code and packages of every stage."""

from __future__ import annotations

from pathlib import Path

from tumorxai import config
from tumorxai.archives import sources
from tumorxai.files import read_json, write_json
from tumorxai.inputs import named, provenance, weights
from tumorxai.inputs.fingerprint import fingerprints


def run(params: config.Params, root: Path, out: Path) -> None:
    """Look at all of it; a file is written anew only where something changed.

    Args:
        params: the whole experiment.
        root: the project's folder.
        out: folder to write to; what it holds of earlier looks is used again.

    Raises:
        UserError: a source or weights are not where they should be, or a preset is named and not in force.
    """
    named.check(root)
    known = out / "known.json"  # of all sources that were ever in use: no stage depends on it
    entries = read_json(known) if known.exists() else {}
    for name, used in (("sources", params.data.sources), ("foreign", params.foreign.sources)):
        found = fingerprints(used, entries)
        entries |= {source: entry for source, entry in found.items() if entry is not None}
        write_json(out / f"{name}.json", found)
    write_json(known, entries)
    write_json(out / "layouts.json", sources.layouts(params.data))
    write_json(out / "method.json", config.about(params.method).model_dump())
    write_json(out / "weights.json", weights.fingerprint(params))
    provenance.write(root, params.method)
