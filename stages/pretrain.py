"""Pretrain the encoder with the active method."""

from pathlib import Path

from tumorxai import config, pretrain, view_sheet
from tumorxai.stage import run


def main() -> None:
    params, data, plots = config.load(), Path("data"), Path("plots/pretrain")
    view_sheet.run(params, data, plots / "views.png")
    pretrain.run(
        params,
        data,
        out=Path("models/encoder.safetensors"),
        details=Path("details/pretrain.json"),
        metrics=Path("metrics/pretrain.json"),
        curves=plots,
    )


if __name__ == "__main__":
    run(main)
