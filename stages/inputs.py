"""Look at what lies outside DVC's graph: the sources, the code and the packages of every stage. Runs at every repro."""

from pathlib import Path

from tumorxai import config
from tumorxai.archives import sources
from tumorxai.files import read_json, write_json
from tumorxai.inputs import named, provenance
from tumorxai.inputs.fingerprint import fingerprints
from tumorxai.inputs.stage import run


def main() -> None:
    params, out = config.load(), Path("data/inputs")
    named.check(Path())
    for name, used in (("sources", params.data.sources), ("foreign", params.foreign.sources)):
        file = out / f"{name}.json"
        write_json(file, fingerprints(used, read_json(file) if file.exists() else {}))
    write_json(out / "layouts.json", sources.layouts(params.data))
    write_json(out / "method.json", config.about(params.method).model_dump())
    provenance.write(Path(), params.method)


if __name__ == "__main__":
    run(main)
