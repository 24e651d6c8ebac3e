"""How the report's templates are filled in, and how numbers are put for readers."""

from __future__ import annotations

import html
import re
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from tumorxai.base.glossary import Score
from tumorxai.report.terms import TERMS


def percent(value: float | None) -> str:
    """A share in [0, 1] for readers, with one decimal."""
    return "–" if value is None else f"{100 * value:.1f}\N{NARROW NO-BREAK SPACE}%"


def between(entry: dict[str, float | None]) -> str:
    """A share with its interval, in one line of text."""
    return f"{percent(entry['value'])} ({percent(entry['low'])} to {percent(entry['high'])})"


def estimate(score: Score, entry: dict[str, float | None]) -> str:
    """A score with its interval, in one line of text, in its unit."""
    if score.percent:
        return between(entry)
    value, low, high = (
        "–" if each is None else score.text(each) for each in (entry["value"], entry["low"], entry["high"])
    )
    return f"{value} ({low} to {high})"


def points(value: float) -> str:
    """A difference of two shares, in percentage points more or fewer."""
    return f"{abs(100 * value):.1f} percentage points {'fewer' if value < 0 else 'more'}"


def plain(name: object) -> str:
    """A name as people write it: without underscores."""
    return str(name).replace("_", " ")


def cell(text: object) -> str:
    """Text that stays text in Markdown, even in a table: names of classes and files come from strangers."""
    plain = html.escape(" ".join(str(text).split()), quote=False)
    return re.sub(r"([\\`*\[\]|])", r"\\\1", plain)


def terms(text: str) -> Markup:
    """A sentence with its words of :data:`tumorxai.report.terms.TERMS` explained to whoever points at them."""
    meanings = {word.lower(): meaning for word, meaning in TERMS.items()}
    pattern = "|".join(re.escape(word) for word in sorted(meanings, key=len, reverse=True))
    parts = re.split(rf"(?i)\b((?:{pattern})s?)\b", text)
    for place in range(1, len(parts), 2):
        word = parts[place].lower()
        meaning = meanings.get(word) or meanings[word.removesuffix("s")]
        parts[place] = Markup('<abbr title="{}">{}</abbr>').format(meaning, parts[place])
    return Markup("").join(parts)  # what is no Markup is escaped


def fill(template: str, **content: Any) -> str:
    """Fill in one of this package's templates; HTML is escaped, and a name that is missing is an error."""
    loader = Environment(
        loader=PackageLoader("tumorxai.report", "."),
        autoescape=select_autoescape(["html.j2"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    loader.filters |= {
        "percent": percent,
        "between": between,
        "estimate": estimate,
        "cell": cell,
        "plain": plain,
        "terms": terms,
    }
    return loader.get_template(template).render(**content)
