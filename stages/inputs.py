"""Look at what lies outside DVC's graph: the sources, the code and the packages of every stage. Runs at every repro."""

from pathlib import Path

from tumorxai import config
from tumorxai.archives import sources
from tumorxai.files import read_json, write_json
from tumorxai.inputs import named, provenance, weights
from tumorxai.inputs.fingerprint import fingerprints
from tumorxai.inputs.stage import run


def main() -> None:
    params, out = config.load(), Path("data/inputs")
    named.check(Path())
    known = out / "known.json"  # of all sources that were ever in use: no stage depends on it
    entries = read_json(known) if known.exists() else {}
    for name, used in (("sources", params.data.sources), ("foreign", params.foreign.sources)):
        found = fingerprints(used, entries)
        entries |= {source: entry for source, entry in found.items() if entry is not None}
        write_json(out / f"{name}.json", found)
    write_json(known, entries)
    write_json(out / "layouts.json", sources.layouts(params.data))
    write_json(out / "method.json", config.about(params.method).model_dump())
    write_json(out / "weights.json", weights.fingerprint(params.methods[params.method]))
    provenance.write(Path(), params.method)


if __name__ == "__main__":
    run(main)
