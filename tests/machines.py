"""Run the tests as other CPUs would: `make test-machines`, or `python tests/machines.py [arguments of pytest]`.

The last digits of a sum depend on the CPU's vector width and on the number of threads. The libraries below are told to
use what an older CPU has, so that one machine stands for several. Every value of each factor occurs: three widths, one
and two threads. All settings are run, even if one fails.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__

ROOT = Path(__file__).resolve().parents[1]


def numpy_without(pattern: str) -> str:
    """NumPy's optional vector extensions that this CPU has and that match: those it is told to leave alone."""
    return " ".join(name for name in __cpu_dispatch__ if __cpu_features__[name] and re.search(pattern, name))


# What PyTorch's own kernels, its convolutions (oneDNN), its BLAS (MKL; on CPUs that are not Intel's it heeds COMPATIBLE
# alone), NumPy's and SciPy's BLAS (OpenBLAS) and NumPy's own loops may use.
WIDTHS = {
    "SSE": {
        "ATEN_CPU_CAPABILITY": "default",
        "ONEDNN_MAX_CPU_ISA": "SSE41",
        "MKL_CBWR": "COMPATIBLE",
        "OPENBLAS_CORETYPE": "Nehalem",
        "NPY_DISABLE_CPU_FEATURES": numpy_without(""),
    },
    "AVX2": {
        "ATEN_CPU_CAPABILITY": "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "MKL_CBWR": "AVX2",
        "OPENBLAS_CORETYPE": "Haswell",
        "NPY_DISABLE_CPU_FEATURES": numpy_without("AVX512|X86_V4"),
    },
    "own": {},
}
SETTINGS = [("SSE", 1), ("AVX2", 1), ("own", 2)]  # width, threads; those of one thread run side by side


def run(width: str, threads: int, arguments: list[str]) -> tuple[int, str]:
    """The exit status of pytest under a setting, and its closing line."""
    counts = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))
    print(f"{width}, {threads} thread{'s' * (threads > 1)}: …", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--basetemp", folder, *arguments]
        done = subprocess.run(
            command,
            cwd=ROOT,
            env={**os.environ, **counts, **WIDTHS[width]},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
    last = (done.stdout.strip().splitlines() or ["pytest said nothing"])[-1]
    print(f"{width}, {threads} thread{'s' * (threads > 1)}: {last}", flush=True)
    if done.returncode:
        print(done.stdout, flush=True)
    return done.returncode, last


def main(arguments: list[str]) -> int:
    """Run all settings, print what came of each, and return 1 if one failed."""
    cores = len(os.sched_getaffinity(0))
    found = []
    for count in (1, 2):
        chosen = [setting for setting in SETTINGS if setting[1] == count]
        with ThreadPoolExecutor(max(1, cores // count)) as pool:
            found += pool.map(lambda setting: run(*setting, arguments), chosen)
    print(f"\n{'width':<6}{'threads':<9}result")
    for (width, threads), (_, line) in zip(SETTINGS, found, strict=True):
        print(f"{width:<6}{threads:<9}{line}")
    return int(any(status for status, _ in found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
