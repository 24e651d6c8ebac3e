"""Which packages a list of runs needs that a node lacks, and their wheels for that node's Python and machine.

What a package says that it needs is more than what is used of it: lightly asks for Hydra, which needs a package that
has no wheel, and its losses import neither. So packages go along that are both asked for and, at home, really loaded.
"""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path

from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tumorxai.errors import UserError
from tumorxai.inputs import provenance

BARE = ("torch", "torchvision", "timm", "numpy", "scikit-learn")  # that a node has, with what these need
REPLACED = {"dvclive"}  # by tumorxai/tools/offline/dvclive.py
GLIBC = (28, 27, 26, 24, 17, 12, 5)  # of 2.x: wheels built for any of these run where 2.28 is, as since 2018
LOADED = """
import importlib, json, sys
for name in json.load(sys.stdin):
    try:
        importlib.import_module(name)
    except ImportError:  # a name within a module, or a package of an extra
        pass
print(json.dumps(sorted({name.split(".")[0] for name in sys.modules})))
"""


def imported(root: Path, runs: Iterable[tuple[str, str]]) -> set[str]:
    """Dotted names that the code of some stages imports, late imports too.

    Args:
        root: the project's folder.
        runs: stages with their methods.
    """
    used = {path for stage, method in runs for path in provenance.files(root, stage, method)}
    used |= {Path(f"src/tumorxai/tools/offline/{name}.py") for name in ("runner", "memory", "records", "packing")}
    used |= {Path("src") / name for name in provenance.APART if name.endswith(".py")}  # in use, and no input of a stage
    modules = {
        ".".join(path.with_suffix("").parts[1:]) for path in used if path.parts[0] == "src" and path.suffix == ".py"
    }
    return provenance.imported(root, used) | modules


def needed(names: set[str], has: Sequence[str], python: str, machine: str) -> dict[str, str]:
    """Versions, by name, of the packages that have to go along: the ones installed here.

    Args:
        names: dotted, that are imported; what belongs to Python itself does not count.
        has: packages of the node's; what they need is there as well.
        python: the node's, such as ``3.12``.
        machine: the node's, such as ``x86_64``.
    """
    asked = json.dumps(sorted(names))
    command = [sys.executable, "-c", LOADED]
    done = subprocess.run(command, input=asked, capture_output=True, text=True, check=True)  # noqa: S603
    loaded = json.loads(done.stdout.splitlines()[-1])
    own = {"extra": "", "python_version": python, "python_full_version": f"{python}.0", "platform_machine": machine}
    environment = {name: str(value) for name, value in default_environment().items()}
    environment |= {"sys_platform": "linux", "platform_system": "Linux", **own}
    owners = metadata.packages_distributions()
    direct = _owners({name.split(".")[0] for name in names}, owners) - REPLACED - {"tumorxai"}
    wanted = _closure(direct, environment) & _owners(loaded, owners) - _closure(has, environment)
    return {name: metadata.version(name) for name in sorted(wanted)}


def _owners(tops: Iterable[str], owners: Mapping[str, list[str]]) -> set[str]:
    """Canonical names of the packages that modules come from."""
    return {canonicalize_name(owner) for top in tops for owner in owners.get(top, [])}


def _closure(names: Iterable[str], environment: dict[str, str]) -> set[str]:
    """Packages and all that they ask for where they are installed here, without extras."""
    todo, found = [canonicalize_name(name) for name in names], set[str]()
    while todo:
        name = todo.pop()
        if name in found:
            continue
        found.add(name)
        try:
            asked = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue
        requirements = [Requirement(one) for one in asked]
        todo += [
            canonicalize_name(one.name)
            for one in requirements
            if one.marker is None or one.marker.evaluate(environment)
        ]
    return found


def at_hand(tops: Iterable[str]) -> set[str]:
    """Which of some modules can be imported here: those of extras need not be there either."""
    return {name for name in tops if importlib.util.find_spec(name)}


def download(versions: dict[str, str], lock: Path, python: str, machine: str, out: Path) -> None:
    """Get wheels by pip, with the hashes of the lock where it pins the same versions.

    Args:
        versions: by name.
        lock: ``requirements.lock``; it need not be there.
        python: as in :func:`needed`.
        machine: likewise.
        out: folder to write to.

    Raises:
        UserError: there is no pip, or it fails; what it said is in the message.
    """
    if not versions:
        return
    out.mkdir(parents=True, exist_ok=True)
    text = lock.read_text(encoding="utf-8") if lock.exists() else ""
    for checked in (True, False):  # pip wants hashes of all in a file or of none
        pins = {name: pinned(text, name, version) for name, version in versions.items()}
        asked = [pins[name] or f"{name}=={versions[name]}\n" for name in versions if bool(pins[name]) == checked]
        if not asked:
            continue
        listed = out / "requirements.txt"
        listed.write_text("".join(asked), encoding="utf-8")
        try:
            command = [*_pip(), "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
            command += ["--only-binary=:all:", "--implementation=cp", f"--python-version={python}", "--dest", str(out)]
            command += [f"--abi={abi}" for abi in (f"cp{python.replace('.', '')}", "abi3", "none")]
            command += [f"--platform=manylinux_2_{minor}_{machine}" for minor in GLIBC]
            command += [f"--platform={old}_{machine}" for old in ("manylinux2014", "manylinux2010", "manylinux1")]
            command += ["--require-hashes"] * checked + ["-r", str(listed)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
        finally:
            listed.unlink()
        if done.returncode:
            raise UserError(
                f"got no wheels for Python {python} on {machine}: {done.stderr.strip()}; expected one of each of "
                f"{', '.join(versions)}; choose another --python, or name what the node has by --has"
            )


def pinned(lock: str, name: str, version: str) -> str:
    """The lines of a lock that pin just that version, with their hashes; empty where it has another."""
    found = re.search(
        rf"^{re.escape(name)}=={re.escape(version)}(?: ;[^\n\\]*)? \\\n(?:    [^\n]*\n)+", lock, re.MULTILINE
    )
    return re.sub(r"^(\S+) ;[^\n\\]* \\", r"\1 \\", found[0]) if found else ""


def _pip() -> list[str]:
    if importlib.util.find_spec("pip"):
        return [sys.executable, "-m", "pip"]
    if uv := shutil.which("uv"):  # an environment of uv's has no pip
        return [uv, "tool", "run", "pip"]
    raise UserError("got no pip; expected it, or uv, to download wheels; run `python -m ensurepip`")
