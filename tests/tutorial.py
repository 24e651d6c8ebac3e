"""Run the commands of ``docs/tutorial.md`` from top to bottom, as a reader would, in a copy of the project.

``make tutorial``, or ``python -m tests.tutorial [FOLDER]``: the copy is a fresh clone of the last commit, in FOLDER or
in a temporary folder, without a virtual environment. Every line runs in one shell; the first one that fails ends it.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "tutorial.md"
# A server that runs until Ctrl-C: started, asked for its page, and ended as a reader would.
SERVE = """{line} > served.txt & server=$!
for second in $(seq 60); do grep -qo 'http://[^ ]*' served.txt && break; sleep 1; done
address=$(grep -o 'http://[^ ]*' served.txt)
python -c "import sys, urllib.request; print(sys.argv[1], urllib.request.urlopen(sys.argv[1]).status)" $address
kill -INT $server; wait $server; rm served.txt"""


def commands(text: str) -> list[str]:
    """The lines of a page's shell blocks, comments left out."""
    blocks = re.findall(r"^```sh\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)
    lines = [re.split(r"\s+# ", line)[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line]


def script(lines: list[str]) -> str:
    """One script that shows each command before it runs it."""
    shown = []
    for line in lines:
        quoted = line.replace("'", "'\\''")
        shown += [f"printf '\\n$ %s\\n' '{quoted}'", SERVE.format(line=line) if line == "tumorxai serve" else line]
    return "\n".join(["set -eo pipefail", *shown, "printf '\\nall commands of the tutorial ran\\n'"])


def main() -> None:
    """Clone and run."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(tempfile.mkdtemp()) / "tumorxai"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
    own, apart = str(ROOT / ".venv"), ("VIRTUAL_ENV", "MAKEFLAGS", "MAKELEVEL")  # of the make that called this
    environment = {key: value for key, value in os.environ.items() if key not in apart}
    environment["PATH"] = os.pathsep.join(p for p in os.environ["PATH"].split(os.pathsep) if not p.startswith(own))
    for role in ("AUTHOR", "COMMITTER"):
        environment |= {f"GIT_{role}_NAME": "tutorial", f"GIT_{role}_EMAIL": "tutorial@localhost"}
    print(folder)
    command = ["bash", "-c", script(commands(PAGE.read_text(encoding="utf-8")))]
    sys.exit(subprocess.run(command, cwd=folder, env=environment, check=False).returncode)


if __name__ == "__main__":
    main()
