"""The curves of a run in MLflow or Weights & Biases as well, by Lightning's loggers, where a variable asks for them.

A variable and no parameter: where curves are shown changes no result, so that nothing runs again for it. The addresses
and keys are those programs' own variables (``MLFLOW_TRACKING_URI``, ``WANDB_MODE`` and so on), which they read.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tumorxai import config
from tumorxai.errors import UserError, known

VARIABLE = "TUMORXAI_LOGGERS"  # names of LOGGERS with commas between them; nothing: DVCLive alone
PROJECT = "tumorxai"  # what the runs are filed under there


def _mlflow(name: str) -> Any:
    from pytorch_lightning.loggers import MLFlowLogger

    experiment, uri = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT), os.environ.get("MLFLOW_TRACKING_URI")
    return MLFlowLogger(experiment, run_name=name, tracking_uri=uri or f"sqlite:///{Path('mlflow.db').absolute()}")


def _wandb(name: str) -> Any:
    from pytorch_lightning.loggers import WandbLogger

    return WandbLogger(name=name, project=os.environ.get("WANDB_PROJECT", PROJECT))


LOGGERS: dict[str, Callable[[str], Any]] = {"mlflow": _mlflow, "wandb": _wandb}


class Loggers:
    """What a variable asks for beside DVCLive; nothing, and nothing is loaded, where it is not set.

    Args:
        params: file of the parameters, which go along without paths and addresses; left out where it is not there.

    Raises:
        UserError: an unknown name, a package that is not installed, or a service that refuses.
    """

    def __init__(self, params: Path = Path("params.yaml")) -> None:
        asked = [name.strip() for name in os.environ.get(VARIABLE, "").split(",") if name.strip()]
        self._open: dict[str, Any] = {}
        for name in asked:
            known(f"logger in {VARIABLE}", name, LOGGERS)
        if not asked:
            return
        given = parameters(params) if params.is_file() else {}
        title = " ".join(str(given[key]) for key in ("preset", "method", "seed") if key in given)
        for name in dict.fromkeys(asked):
            try:
                logger = LOGGERS[name](title)
                logger.log_hyperparams(given)  # the first word to the service
            except ModuleNotFoundError:
                self.close(whole=False)
                raise UserError(
                    f"got {VARIABLE}={','.join(asked)} without the package of {name}; expected it installed; run "
                    f"`uv pip install --editable '.[{name}]'` in a clone, or unset the variable"
                ) from None
            except Exception as error:  # whatever these packages and their transports raise
                self.close(whole=False)
                raise UserError(
                    f"got {VARIABLE}={','.join(asked)}, and {name} cannot be written to ({_first_line(error)}); "
                    "expected a service that takes the run; check its address and key, or unset the variable"
                ) from None
            self._open[name] = logger

    def add(self, signals: Mapping[str, float], step: int) -> None:
        """Send one point of every curve; a service that fails is left out from then on, and the training goes on."""
        for name, logger in list(self._open.items()):
            try:
                logger.log_metrics(dict(signals), step)
            except Exception as error:  # as above
                print(f"warning: {name} gets no more points of this run: {_first_line(error)}", file=sys.stderr)
                del self._open[name]

    def close(self, whole: bool) -> None:
        """End the runs there, as failed unless the training came to its end."""
        for name, logger in self._open.items():
            try:
                logger.finalize("success" if whole else "failed")
                if name == "wandb":  # which Lightning leaves open
                    logger.experiment.finish(exit_code=int(not whole))
            except Exception as error:  # as above
                print(f"warning: {name} was not told of the end: {_first_line(error)}", file=sys.stderr)


def parameters(path: Path) -> dict[str, Any]:
    """Dotted names and values that leave the machine: no paths or addresses, and of the methods the one in force.

    Args:
        path: ``params.yaml``.
    """
    content = config.mapping(path)
    own = f"methods.{content.get('method')}."
    return {
        key: value
        for key, value in config.flatten(content)
        if key.rsplit(".", 1)[-1] not in config.PRIVATE and (key.startswith(own) or not key.startswith("methods."))
    }


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0] or type(error).__name__
