"""YAML that people write, read as DVC reads it: ``seed: 010`` must not be 8 for a stage and 10 in ``dvc.lock``."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from tumorxai.errors import UserError

MAX_BYTES = 2**17  # of a file of parameters, twenty times the project's own: a megabyte takes ruamel half a minute
MAX_DEPTH = 20  # of blocks in blocks


def parse(text: str, where: object) -> Any:
    """What a YAML document holds.

    Args:
        text: the document.
        where: it stands, for messages.

    Raises:
        UserError: it is no YAML, names a key twice, refers to other parts of itself, or is nested too deeply.
    """
    from ruamel.yaml import YAML  # parameters that are built in Python need no reader of YAML
    from ruamel.yaml.error import YAMLError
    from ruamel.yaml.events import AliasEvent, CollectionEndEvent, CollectionStartEvent

    try:
        depth = 0
        for event in YAML(typ="safe", pure=True).parse(io.StringIO(text)):
            depth += isinstance(event, CollectionStartEvent) - isinstance(event, CollectionEndEvent)
            if depth > MAX_DEPTH:
                raise UserError(f"{where}: got more than {MAX_DEPTH} blocks in one another; expected fewer; correct it")
            if isinstance(event, AliasEvent):  # nine lines of them can stand for a billion values
                raise UserError(f"{where}: got a reference (*{event.anchor}); expected values; write them out")
        return YAML(typ="safe").load(text)  # as dvc.utils.serialize does
    except YAMLError as error:
        raise UserError(f"{where} is not valid YAML: {error}; correct it") from None
    except (ValueError, OverflowError, RecursionError) as error:  # such as a number of 10,000 digits
        raise UserError(f"{where}: got a value that cannot be read ({str(error)[:200]}); correct it") from None


def mapping(path: Path) -> dict[str, Any]:
    """What a YAML file holds; nothing where it holds comments alone.

    Raises:
        UserError: it is missing, too large, no text, no YAML, or no mapping.
    """
    try:
        with path.open("rb") as stream:
            raw = stream.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise UserError(f"got no {path}; expected the parameters there; run from the project's folder") from None
    except OSError as error:
        raise UserError(f"{path}: got {error.strerror}; expected a file of parameters that can be read") from None
    if len(raw) > MAX_BYTES:
        raise UserError(f"{path}: got more than {MAX_BYTES} bytes; expected a file of parameters; correct it")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: got bytes that are not UTF-8 ({error}); expected UTF-8; save it as that") from None
    content = parse(text, path)
    if content is not None and not isinstance(content, dict):
        raise UserError(f"{path}: got {type(content).__name__}; expected a mapping of parameters")
    return content or {}
