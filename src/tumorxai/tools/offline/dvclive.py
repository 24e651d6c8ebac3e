"""What :mod:`tumorxai.pretrain.curves` asks of DVCLive, where DVC is not installed: DVCLive imports DVC itself.

A node gets this file as the module ``dvclive``. It writes the same bytes.
"""

from __future__ import annotations

import csv
import json
import math
import os
import shutil
from pathlib import Path


class Live:
    """Curves of one run: ``plots/metrics/NAME.tsv``, a line a step, and the last values in ``metrics.json``.

    Args:
        dir: folder that they go to; curves of an earlier run are removed.
        dvcyaml: nothing else than none is known here.
        save_dvc_exp: likewise.
        report: likewise.
    """

    def __init__(
        self,
        dir: str,
        dvcyaml: None = None,
        save_dvc_exp: bool = False,
        report: None = None,
    ) -> None:
        self.folder = Path(dir)
        self.step: int | None = None
        self.summary: dict[str, float | str] = {}
        shutil.rmtree(self.folder / "plots/metrics", ignore_errors=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "metrics.json").unlink(missing_ok=True)

    def log_metric(self, name: str, val: float) -> None:
        """Add a line to a curve; what is no finite number goes in as text."""
        kept = val if math.isfinite(val) else str(val)
        path = self.folder / "plots/metrics" / f"{name}.tsv"
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = not path.exists()
        with open(path, "a", encoding="utf-8", newline="") as stream:
            writer = csv.DictWriter(stream, ["step", name], delimiter="\t", lineterminator=os.linesep)
            if fresh:
                writer.writeheader()
            writer.writerow({"step": self.step or 0, name: kept})
        self.summary[name] = kept

    def next_step(self) -> None:
        """End a step."""
        self.step = self.step or 0
        self._summarise()
        self.step += 1

    def end(self) -> None:
        """End the run."""
        last = self.summary.get("step")
        if last is not None:
            self.step = int(last)
        self._summarise()

    def _summarise(self) -> None:
        if self.step is not None:
            self.summary["step"] = self.step
        with open(self.folder / "metrics.json", "w", encoding="utf-8") as stream:
            json.dump(self.summary, stream, indent=4)
            stream.write("\n")
