"""Images for schemathesis to upload: `SCHEMATHESIS_HOOKS=tests.serve.hooks schemathesis run …`."""

from __future__ import annotations

import io

import schemathesis
from hypothesis import strategies as st
from PIL import Image


def encoded(side: tuple[int, int], content: bytes, kind: str) -> bytes:
    """A picture with the content repeated over it."""
    width, height = side
    pixels = (content * (width * height // len(content) + 1))[: width * height]
    stream = io.BytesIO()
    Image.frombytes("L", side, pixels).save(stream, kind)
    return stream.getvalue()


sides = st.tuples(st.integers(16, 200), st.integers(16, 200))
for name in ("png", "jpeg"):
    pictures = st.builds(encoded, sides, st.binary(min_size=1, max_size=400), st.just(name))
    schemathesis.openapi.media_type(f"image/{name}", pictures)
