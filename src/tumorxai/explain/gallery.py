"""One file to look at pictures, which it holds."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from pathlib import Path

from tumorxai.base.drawing import data_uri
from tumorxai.files import write_text

STYLE = """body { font: 16px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem }
img { max-width: 100%; height: auto }
figure { margin: 1rem 0 2rem }
figcaption { color: #444; max-width: 45rem }
@media (prefers-color-scheme: dark) { body { background: #111; color: #eee } figcaption { color: #bbb } }"""


def write(path: Path, sections: Mapping[str, Sequence[tuple[Path, str]]]) -> None:
    """Write the page.

    Args:
        path: HTML to write; it needs no other file.
        sections: by heading, the pictures and what is to be seen on each.
    """
    body = []
    for heading, shown in sections.items():
        body.append(f"<h2>{html.escape(heading)}</h2>")
        for picture, words in shown:
            source, text = data_uri(picture.read_bytes()), html.escape(words)
            body.append(f'<figure><img src="{source}" alt="{text}"><figcaption>{text}</figcaption></figure>')
    top = (
        '<!doctype html>\n<html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Heat-maps</title>\n<style>{STYLE}</style>\n<h1>Heat-maps</h1>\n"
        "<p>Research use only. Not a medical device, not for diagnosis.</p>\n"
    )
    write_text(path, top + "\n".join(body) + "\n</html>\n")
