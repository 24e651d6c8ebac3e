"""Where data lies outside the project: the mirror of archives, and what is kept between runs."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

MIRROR = "TUMORXAI_MIRROR"  # folder of OWNER--SLUG.zip files that stands in for Kaggle
CACHE = "TUMORXAI_CACHE"  # folder that keeps downloads and check sums between runs and projects


def cached(kind: str) -> Path:
    """A folder of the cache that runs and projects share; it need not exist."""
    return Path(os.environ.get(CACHE) or platformdirs.user_cache_path("tumorxai")) / kind
