"""How long the evaluation of a trained encoder takes once its embedding exists: all frozen protocols, and the scores.

Run it in a project folder whose pipeline has been run. Each stage is started as DVC starts it, imports included. The
last line is one JSON object; the limit is for the archive of 3,264 images on 2 cores.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time

STAGES = ("linear", "frozen", "baselines", "scores", "review")
LIMIT_SECONDS = 180


def main() -> None:
    seconds = {}
    for stage in STAGES:
        started = time.perf_counter()
        subprocess.run([sys.executable, f"stages/{stage}.py"], check=True, stderr=subprocess.DEVNULL)
        seconds[stage] = round(time.perf_counter() - started, 1)
        print(f"{stage:<12}{seconds[stage]:>8.1f} s")
    total = round(sum(seconds.values()), 1)
    print(json.dumps({"seconds": seconds, "total": total, "limit": LIMIT_SECONDS, "ok": total <= LIMIT_SECONDS}))


if __name__ == "__main__":
    main()
