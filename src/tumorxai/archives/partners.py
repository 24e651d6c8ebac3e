"""Files that belong to others: masks and augmented copies, told by the images that stand beside them.

A name alone is not enough: what is called like a mask is one where an image of the same name stands beside it, or in
the folder that mirrors its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from tumorxai.archives import words

Parts = tuple[str, ...]

MASK, AUGMENTED = "a mask, not an image", "an augmented copy, not an image of its own"
ALONE = "a mask by its name and its few grey levels, of no image beside it"
MASKS = "masks"  # what a file is called like that may be one
MARK = (
    r"masks?|seg|segmentation|segmented|gt|groundtruth|ground_truth|labels?|roi|annotat(?:ed|ion)|contours?|outlines?|"
    r"overlay"
)
# Behind an image's name, or in front of it, of the mask that belongs to it.
BEHIND = re.compile(rf"(.+?)[\s_.-]+(?:tumou?r|lesion)?[\s_.-]*(?:{MARK}|m)(?:[\s_.-]*\(?\d+\)?)?")
FRONT = re.compile(r"(?:mask|seg|segmentation|gt|label)[\s_.-]+(.+)")
UNNAMED = re.compile(
    r"(?:tumou?r|lesion)?[\s_.-]*(?:(?:mask|seg|segmentation|groundtruth)(\d*)|gt|labels?|roi|contours?)"
)
SHORT = re.compile(r".*[\s_.-]m[\s_.\d()-]*")  # marks a mask only where its image is there
COPY = rf"(?:{words.AUGMENTED.pattern}|rot)"
COPIED = (
    re.compile(rf"(.+?)[\s_.-]+{COPY}(?:[\s_.-]*(?:\(?\d+\)?|[hv]|lr|ud))?"),
    re.compile(rf"{COPY}(?:[\s_.-]*\d+)?[\s_.-]+(.+)"),
)
IMAGE = r"(?:image|img|scan|slice|picture|pic|mri|mr|original|orig|input)"
# Words of folders that hold masks or drawings where another folder holds the images.
DRAWN = {"seg", "segs", "segmented", "label", "labels", "labelled", "labeled", "annotation", "annotations", "annotated",
         "gt", "gts", "roi", "rois", "contour", "contours", "contoured", "outline", "outlines", "outlined",
         "delineation", "delineations", "overlay", "overlays"}  # fmt: skip


def stem(path: str) -> str:
    """A file's name without its ending and case."""
    return re.sub(r"(\.nii)?\.[^.]*$", "", path.replace("\\", "/").rsplit("/", 1)[-1].casefold())


def _number(own: str) -> str:
    """A stem without a word for an image: ``img_1`` and ``1_image`` are 1."""
    return re.sub(rf"^{IMAGE}(?![a-z])[\s_.-]*|[\s_.-]+{IMAGE}$", "", own)


def _whose(own: str) -> tuple[str, ...]:
    """The stems of images that a mask's stem names; none of what is not called like a mask."""
    return tuple(found[1] for rule in (BEHIND, FRONT) if (found := rule.fullmatch(own)))


def belonging(files: Sequence[str]) -> tuple[dict[str, str], dict[str, str]]:
    """Files of one folder that are masks or copies of others beside them, and such as are only called so.

    Returns:
        By path, why it is no image of its own; and by path, what it is called like.
    """
    stems = {path: stem(path) for path in files}
    there = {same for own in stems.values() for same in (own, _number(own))}
    # As of BraTS, one mask for the sequences beside it: `x_seg.nii.gz` of `x_t1ce.nii.gz`.
    there |= {own.rpartition(mark)[0] for own in there for mark in "_-" if words.sequence(own.rpartition(mark)[2])}
    alone = {own: match[1] for own in stems.values() if (match := UNNAMED.fullmatch(own))}
    found, doubtful = {}, {}
    for path, own in stems.items():
        whose = _whose(own)
        if own in alone:
            masks = alone[own] in there if alone[own] else len(alone) < len(set(stems.values()))
        else:
            masks = any(image in there for image in whose)
        copied = [match[1] for rule in COPIED if (match := rule.fullmatch(own))]
        if masks:
            found[path] = MASK
        elif any(image in there for image in copied):
            found[path] = AUGMENTED
        elif own in alone or (whose and not SHORT.fullmatch(own)):
            doubtful[path] = MASKS
        elif copied:
            doubtful[path] = "augmented copies"
    return found, doubtful


def drawn(name: str) -> bool:
    """Is a folder called like one of masks or drawings, which others may be called as well?"""
    return bool(DRAWN & set(words.told(name))) and not words.NUMBERED.match(name.strip())


def mirrored(inside: Mapping[Parts, Sequence[str]], children: Mapping[Parts, Iterable[str]]) -> dict[Parts, bool]:
    """Folders that are called like ones of masks, and whether a mirrored folder holds images of the same names.

    ``labels/glioma/1.png`` belongs to ``MRI/glioma/1.png``, ``glioma/contours/1.png`` to ``glioma/1.png``.
    """
    asked = {(*above, name) for above, names in children.items() for name in names if drawn(name)}
    if not asked:
        return {}
    by_rest: dict[tuple[Parts, Parts], list[Parts]] = {}  # folders by what stands above and below one of their parts
    tops = {own[:-1] for own in asked}
    for folder in inside:
        for i in range(len(folder)):
            if folder[:i] in tops and folder[: i + 1] not in asked and words.role(folder[i]) != "mask":
                by_rest.setdefault((folder[:i], folder[i + 1 :]), []).append(folder)
    count: dict[Parts, list[int]] = {own: [0, 0] for own in asked}
    for folder, files in inside.items():
        for i in range(len(folder)):
            if folder[: i + 1] not in asked:
                continue
            above, below = folder[:i], folder[i + 1 :]
            others = [*by_rest.get((above, below), []), *([above + below] if above + below in inside else [])]
            images = {same for other in others for path in inside[other] for same in (stem(path), _number(stem(path)))}
            for own in map(stem, files):
                count[folder[: i + 1]][0] += 1
                count[folder[: i + 1]][1] += bool(images & {own, _number(own), *_whose(own)})
    return {own: 2 * same >= every for own, (every, same) in count.items()}
