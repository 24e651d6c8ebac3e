"""One DICOM image: its slice, its grey levels, and which way is up."""

from __future__ import annotations

import numpy as np
import pytest

from tests.archives import scanner
from tests.archives.scanner import brain, pixels
from tumorxai.archives import dicom, grey


@pytest.mark.parametrize("wanted", [1, 4, 5, "all"])
def test_slices_are_evenly_spaced_over_the_middle(wanted: grey.Slices) -> None:
    for count in range(1, 60):
        places = grey.chosen(count, wanted)
        assert places == sorted(set(places))
        assert len(places) == (count if wanted == "all" else min(count, int(wanted)))
        assert 0 <= places[0] <= places[-1] < count
        if wanted != "all" and count > 2 * int(wanted):
            assert count / 4 - 1 <= places[0] <= places[-1] <= 3 * count / 4
            gaps = np.diff(places)
            assert gaps.size == 0 or gaps.max() - gaps.min() <= 1


def test_monochrome1_is_inverted() -> None:
    one, other = dicom.picture(scanner.dicom()), dicom.picture(scanner.dicom(PhotometricInterpretation="MONOCHROME1"))
    assert (pixels(one) == 255 - pixels(other)).all()


def test_signed_values_slope_and_window() -> None:
    """A ramp of signed values, as of CT: rescaled, then black below the window and white above it."""
    ramp = np.tile(np.arange(-32, 32, dtype="<i2"), (64, 1))
    data = scanner.dicom(ramp, RescaleSlope=2, RescaleIntercept=-10, WindowCenter=0, WindowWidth=40)
    values = 2.0 * ramp - 10
    wanted = np.rint(np.clip((values + 20) / 40, 0, 1) * 255)
    assert np.abs(pixels(dicom.picture(data)) - wanted).max() <= 1


def test_without_a_window_hot_pixels_do_not_darken_the_rest() -> None:
    hot = brain()
    hot[3, 3:6] = 65535
    clean, darkened = (pixels(dicom.picture(scanner.dicom(own))) for own in (brain(), hot))
    assert np.abs(clean.astype(int) - darkened)[10:30].max() <= 255 * 0.05
    beyond = pixels(dicom.picture(scanner.dicom(brain(), WindowCenter=60000, WindowWidth=10)))
    assert (beyond == clean).all(), "a window in which nothing lies is of another image"


@pytest.mark.parametrize("flips", range(8))
def test_every_way_to_store_a_slice_shows_the_same(flips: int) -> None:
    """The same slice with its rows and columns turned and exchanged, and the header saying so."""
    own, along, down = brain(3, 30, 40), np.array([1, 0, 0]), np.array([0, 1, 0])
    own[:10, :10] = 390  # front, on the patient's right
    plain = pixels(dicom.picture(scanner.dicom(own)))
    if flips & 1:
        own, along = own[:, ::-1], -along
    if flips & 2:
        own, down = own[::-1], -down
    if flips & 4:
        own, along, down = own.T, down, along
    turned = scanner.dicom(np.ascontiguousarray(own), ImageOrientationPatient=[*map(int, along), *map(int, down)])
    assert (pixels(dicom.picture(turned)) == plain).all()


@pytest.mark.parametrize("orientation", [(0, 1, 0, 0, 0, -1), (1, 0, 0, 0, 0, -1), (1, 0, 0, 0, 1, 0)])
def test_the_usual_planes_are_upright_already(orientation: tuple[int, ...]) -> None:
    own = np.arange(12, dtype=np.uint8).reshape(3, 4)
    found, turned = dicom.upright(own, orientation)
    assert (found == own).all()
    assert not turned


def test_pixels_that_are_not_square() -> None:
    assert pixels(dicom.picture(scanner.dicom(brain(0, 20, 40), PixelSpacing=[2, 1]))).shape == (40, 40)
