"""Score the kept predictions of every protocol, once, at the end."""

from pathlib import Path

from tumorxai.inputs.script import run
from tumorxai import config
from tumorxai.result import result


def main() -> None:
    result.run(config.load(), Path("models"), Path("details"), Path("metrics"), Path("plots"))


if __name__ == "__main__":
    run(main)
