"""Score the kept predictions of every protocol, once, at the end."""

from pathlib import Path

from tumorxai import config
from tumorxai.errors import run
from tumorxai.evaluate import result


def main() -> None:
    result.run(config.load(), Path("models"), Path("metrics"), Path("plots"))


if __name__ == "__main__":
    run(main)
