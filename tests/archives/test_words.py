"""What words of file names and headers mean."""

from __future__ import annotations

import pytest

from tumorxai.archives import words


@pytest.mark.parametrize(
    ("said", "sequence"),
    [
        ("AX T1 post GD", "T1C+"), ("t1_mprage_sag_p2_iso", "T1"), ("T1 +C FS", "T1C+"), ("BraTS19_t1ce", "T1C+"),
        ("sub-01_ce-gadolinium_T1w", "T1C+"), ("AX T1 PRE contrast", "T1"), ("T1 without contrast", "T1"),
        ("t2_tse_tra", "T2"), ("AX T2 FLAIR FS", "FLAIR"),
        ("SAG T1 FLAIR", "T1"), ("ep2d_diff_ADC", ""), ("T1 and T2", ""), ("", ""),
    ],
)  # fmt: skip
def test_sequences_in_scanners_words(said: str, sequence: str) -> None:
    assert words.spoken(said) == sequence
