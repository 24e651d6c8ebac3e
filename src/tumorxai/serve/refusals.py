"""What is refused, and how a refusal reads: one sentence, as a page or as JSON."""

from __future__ import annotations

from tumorxai.archives.archives import UnreadableError


class RefusedError(Exception):
    """A request that is answered with a sentence instead of a result.

    Args:
        status: HTTP status, 400 or above.
        sentence: what arrived, what is expected, what to do.
    """

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status
        self.sentence = sentence


SENTENCES = {
    404: "got an address that does not exist; start at /",
    405: "got a method that this address does not take; see /api",
    500: "got an error inside the server, which has been logged; try again",
}


def unreadable(error: UnreadableError) -> str:
    """What is wrong with an uploaded file."""
    return f"got a file that cannot be read ({error}); expected an image such as PNG or JPEG; choose another"
