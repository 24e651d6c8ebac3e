"""What folders are usually called: classes, sides, patients, sequences, masks and augmentations."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Collection, Iterable
from functools import lru_cache
from itertools import pairwise
from typing import Literal, NamedTuple

Group = Literal["", "glioma", "meningioma", "pituitary", "neurocytoma", "schwannoma", "other", "normal"]
Sequence = Literal["", "T1", "T1C+", "T2", "FLAIR"]
Side = Literal["", "train", "validation", "test"]
Role = Literal["", "side", "patient", "sequence", "plane", "mask", "augmented", "container", "digits"]

SIDES: dict[str, Side] = {
    **dict.fromkeys(("train", "training", "trn", "learn", "learning", "xtrain", "imagestr", "trainval",
                     "trainvalid", "trainvalidation", "traindev"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "validate", "validating", "dev", "development",
                     "xval"), "validation"),
    **dict.fromkeys(("test", "testing", "tst", "holdout", "evaluation", "eval", "xtest", "imagests"), "test"),
}  # fmt: skip

SEQUENCES: dict[str, Sequence] = {
    **dict.fromkeys(("t1", "t1w", "t1n", "t1pre"), "T1"),
    **dict.fromkeys(("t1c+", "t1+c", "t1c", "t1ce", "t1gd", "t1cegd", "t1+gd", "t1post", "t1km", "t1contrast"), "T1C+"),
    **dict.fromkeys(("t2", "t2w"), "T2"),
    **dict.fromkeys(("flair", "t2flair", "t2f", "tirm"), "FLAIR"),
}  # fmt: skip

# Words of a series' description that tell T1 with contrast from T1 without.
CONTRAST = {"ce", "c+", "gd", "gad", "gado", "gadolinium", "km", "post", "postcontrast", "contrast", "enhanced"}
PLAIN = {"pre", "precontrast", "non", "no", "without", "wo", "unenhanced"}

TUMOUR, NORMAL = "tumour", "normal"  # what is said of a tumour whose kind is not, and of none
# Words for classes, each against what it is filed under; compared as `_core` leaves them.
WORDS: dict[str, str] = {
    **{word: word for word in ("glioma", "meningioma", "pituitary", "neurocytoma", "schwannoma", "other", NORMAL)},
    **dict.fromkeys(("gliom", "gliome"), "glioma"),
    **dict.fromkeys(("hgg", "highgradeglioma"), "high grade glioma"),
    **dict.fromkeys(("lgg", "lowgradeglioma"), "low grade glioma"),
    **dict.fromkeys(("glioblastoma", "glioblastom", "gbm", "glioblastomamultiforme"), "glioblastoma"),
    **dict.fromkeys(("astrocytoma", "astrocitoma"), "astrocytoma"),
    "oligodendroglioma": "oligodendroglioma",
    **dict.fromkeys(("ependymoma", "ependimoma"), "ependymoma"),
    "ganglioglioma": "ganglioglioma",
    **dict.fromkeys(("meningoma", "meningiom", "meningeom"), "meningioma"),
    **dict.fromkeys(("pituitaryadenoma", "pituitarymacroadenoma", "hypophysealadenoma"), "pituitary"),
    **dict.fromkeys(("neurocitoma", "centralneurocytoma"), "neurocytoma"),
    **dict.fromkeys(("schwanoma", "vestibularschwannoma", "acousticschwannoma"), "schwannoma"),
    "others": "other",
    **dict.fromkeys(("no", "none", "healthy", "healthycontrol", "control", "negative", "neg"), NORMAL),
    **dict.fromkeys(("yes", "positive", "pos", TUMOUR), TUMOUR),
}  # fmt: skip
HISTOLOGIES = {"glioblastoma", "astrocytoma", "oligodendroglioma", "ependymoma", "ganglioglioma"}
GROUPS: dict[str, Group] = {  # of each that a word is filed under; a tumour of no known kind has none
    **dict.fromkeys(("glioma", "high grade glioma", "low grade glioma", *HISTOLOGIES), "glioma"),
    "meningioma": "meningioma", "pituitary": "pituitary", "neurocytoma": "neurocytoma", "schwannoma": "schwannoma",
    "other": "other", NORMAL: "normal",
}  # fmt: skip

TUMOURS = {"tumor", "tumour", "tumors", "tumours"}
NEGATIONS = {"no", "non", "not", "without", "free"}
FILLERS = {"brain", "mri", "mr", "image", "images", "img", "imgs", "scan", "scans", "case", "cases", "class", "type",
           "patient", "patients", "folder", "set", "data", "dataset"}  # fmt: skip

# Folders that hold others and mean nothing; two of an image's folders may be of one name.
CONTAINERS = {"images", "image", "imgs", "img", "scans", "slices", "pictures", "data", "dataset", "datasets", "all",
              "raw", "original", "originals", "cropped", "resized", "png", "jpg", "jpeg", "tiff", "mri", "mris",
              "brainmri", "brain", "files", "archive", "preprocessed", "processed"}  # fmt: skip
# Beside these, LABELS hold masks.
PICTURES = {"images", "image", "imagestr", "imagests", "imgs", "img", "scans", "slices", "pictures"}
MASKS = {"mask", "masks", "segmentation", "segmentations", "seg", "segs", "segmented", "groundtruth", "lesionmask",
         "lesionmasks", "tumormask", "tumormasks", "tumourmask", "tumourmasks", "segmentationmask",
         "segmentationmasks", "imagemasks", "maskimages"}  # fmt: skip
LABELS = {"label", "labels", "labelstr", "labelsts", "annotation", "annotations", "gt", "gts", "roi", "rois", "target",
          "targets"}  # fmt: skip
AUGMENTED = re.compile(
    r"augment\w*|augs?\d*|(?:hv?|vh?|lr|ud)?flip(?:s|ped)?\d*|rot\d+|rotate(?:d|s)?\d*|rotations?|synthetic|generated"
)
PLANES = {"axial", "coronal", "sagittal", "transversal", "transverse", "ax", "cor", "sag", "tra"}
# What may stand with a plane or a sequence in a name that says nothing else.
VIEWS = {"fs", "fatsat", "mprage", "tse", "fse", "se", "spgr", "weighted", "w", "seq", "sequence", "series", "2d", "3d",
         "slice", "slices", "brain", "mri", "mr", "image", "images", "img", "imgs", "scan", "scans"}  # fmt: skip
MONTHS = (
    "jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?|"
    "nov(?:ember)?|dec(?:ember)?"
)
# Field strengths, sizes and dates: they hold images of many, and are neither patients nor copies.
MEASURED = re.compile(
    rf"\d(?:[.,_]\d+)?[\s_]*t(?:esla)?|\d+[\s_]*x[\s_]*\d+(?:[\s_]*x[\s_]*\d+)?(?:px)?|\d+[\s_]*(?:px|pixels?|mm|dpi|bits?)"
    rf"|\d{{1,2}}[\W_]*(?:{MONTHS})[\W_]*(?:\d\d){{1,2}}|(?:{MONTHS})[\W_]*(?:\d{{1,2}}[\W_]+)?(?:19|20)\d\d",
    re.IGNORECASE,
)
ID = re.compile(r"\d\d|^p\W?\d", re.IGNORECASE)  # digits of a patient's id, where a name stands in two classes
YEAR = re.compile(r"(?:19|20)\d\d")

PATIENT = re.compile(
    r"(?:patients?|pat|pt|case|subjects?|subj|sub|person|individual|id|pid|mrn)(?:[\s_.#-]+\w*\d|\d)[\w.-]*"
    r"|(?:patient|pat|pt|case|subject|subj|person|individual)[\s_.#-]+[a-z]{1,2}"
    # Of a challenge's data set the name and the year are no patient's, BraTS2020_TrainingData.
    r"|(?:tcga|brats|upenn|ucsf)(?![\W_]*(?:19|20)\d\d[\W_a-z]*$)[a-z0-9]*[\W_][\w.-]*\d[\w.-]*",
    re.IGNORECASE,
)
# Numbered names that are no patients: they are classes, or parts of a patient's examination.
NUMBERED = re.compile(
    r"(?:grades?|class|type|stage|who|level|cat|category|group|label|idh|score|session|ses|series|slices?|scans?|visit|run|"
    r"time|fold|batch|part|set|vol|volume|version|v|study|exam|site|center|centre|hospital|dataset|data|t)[\W_]*\d",
    re.IGNORECASE,
)
FOLD = re.compile(
    r"(?:k?fold|cv|split|part|batch|session|ses|series|scans?|slices?|time(?:point)?|visit|run|volume|vol|study|exam|site|"
    r"center|centre|hospital|scanner)"
    r"(?:[\W_]*\d*|[\W_]+\w\d*)",
    re.IGNORECASE,
)
LONG = 6  # letters of a word from which one slip still tells it from every other


class Meaning(NamedTuple):
    """What a class folder is called by.

    Attributes:
        word: what it is filed under, a value of WORDS; empty for a name that means nothing here.
        sequence: of MRI, that stands with it.
        rest: digits in front of the word; names of one word that differ in it stay two classes.
        slip: is the word spelt with one slip?
    """

    word: str = ""
    sequence: Sequence = ""
    rest: str = ""
    slip: bool = False

    @property
    def group(self) -> Group:
        """Tumour group; empty where none is known."""
        return GROUPS.get(self.word, "")

    @property
    def histology(self) -> str:
        """The kind of tumour, where the word says more than the group."""
        return self.word if self.word in HISTOLOGIES else ""


@lru_cache(maxsize=4096)
def squash(name: str) -> str:
    """A folder name without case, accents, spaces and most punctuation, as names of one source are matched.

    What may be all that tells two classes apart is kept: ``+``, a ``-`` at the end, and a break between two digits.
    """
    plain = unicodedata.normalize("NFKD", name).casefold().strip()
    ending = "-" if plain.endswith("-") else ""
    plain = "".join(letter for letter in plain if not unicodedata.combining(letter))
    plain = re.sub(r"(?<=\d)[^a-z0-9+]+(?=\d)", "|", plain)
    return "".join(letter for letter in plain if letter.isalnum() or letter in "+|") + ending


def tokens(name: str) -> list[str]:
    """Words of a name, without case and accents: at blanks, punctuation and where a small letter meets a capital."""
    parts = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", unicodedata.normalize("NFKD", name))
    plain = "".join(letter for letter in parts.casefold() if not unicodedata.combining(letter))
    return [part for part in re.split(r"[^a-z0-9+]+|(?<![a-z0-9])\++", plain) if part]


def told(name: str) -> list[str]:
    """Words of a name, but for what it says that it is not: ``glioma without mask`` is ``glioma``."""
    said: list[str] = []
    for word in tokens(name):
        if said and said[-1] in NEGATIONS and (word in MASKS or AUGMENTED.fullmatch(word)):
            said.pop()
        else:
            said.append(word)
    return said


def _views(said: Collection[str]) -> bool:
    """Do words tell of planes and sequences, and of nothing else?"""
    return all(word in SEQUENCES or word in PLANES | VIEWS | CONTRAST | PLAIN for word in said)


@lru_cache(maxsize=4096)
def sequence(name: str) -> Sequence:
    """The MRI sequence that a name as a whole states, alone or with a plane, ``axial_T1``; empty for none."""
    said = tokens(name)
    return SEQUENCES.get("".join(said), "") or (spoken(name) if _views(said) else "")


@lru_cache(maxsize=4096)
def spoken(text: str) -> Sequence:
    """The MRI sequence that a description says in its own words, ``AX T1 FS post``; empty for none, and for several.

    T2 FLAIR is FLAIR, and T1 FLAIR is T1; T1 with a word for contrast, and without one against it, is T1C+.
    """
    said = tokens(text)
    found = {SEQUENCES[own] for own in [*said, *map("".join, pairwise(said))] if own in SEQUENCES}
    contrast = CONTRAST & set(said) or re.search(r"\+\s*c\b", text, re.IGNORECASE)
    if "T1C+" in found or ("T1" in found and contrast and not PLAIN & set(said)):
        found = found - {"T1"} | {"T1C+"}
    if "FLAIR" in found:
        found -= {"T2"} if not found & {"T1", "T1C+"} else {"FLAIR"}
    return found.pop() if len(found) == 1 else ""


@lru_cache(maxsize=4096)
def meaning(name: str) -> Meaning:
    """What a class folder is called by, alone or with a sequence and numbers: ``0_no_tumor``, ``glioma T1ce``.

    A long word with one slip behind its first letter is taken for the one that it is next to, unless it is
    :func:`doubtful`; :func:`nearest` names what is only similar.
    """
    words = told(name)
    own: Sequence = ""
    if len(words) == 1 and (glued := re.fullmatch(r"(.+?)(t1c\+|t1ce|t1|t2)", words[0])):
        words = list(glued.groups())
    for count in (2, 1):
        for part, others in ((words[-count:], words[:-count]), (words[:count], words[count:])):
            if own == "" and others and (found := SEQUENCES.get("".join(part))):
                own, words = found, others
    if re.search(r"[+\-]\s*$", name) and not (own and name.rstrip().endswith("+")):
        return Meaning()  # as of IDH+ and IDH-, the sign is what tells two classes apart
    rest = ""
    if words and (front := re.fullmatch(r"(\d+)([a-z]*)", words[0])) and (front[2] or len(words) > 1):
        rest, words = front[1], [*filter(None, [front[2]]), *words[1:]]
    word, slip = _word(words)
    return Meaning(word, own, rest, slip) if word else Meaning()


def _word(words: list[str]) -> tuple[str, bool]:
    """What words are filed under, or nothing; and whether they are spelt with one slip."""
    joined = "".join(words)
    core = [word for word in words if word not in FILLERS | TUMOURS]
    if re.fullmatch(r"(?:no|non|not|without)(?:brain)?tumou?rs?|tumou?rs?free", joined):
        return NORMAL, False
    if NEGATIONS & set(words) and joined != "no":
        return (
            (NORMAL, False) if not [word for word in core if word not in NEGATIONS] and len(words) > 1 else ("", False)
        )
    if not core:
        told = bool(TUMOURS & set(words)) and not {"data", "dataset", "set", "folder"} & set(words)
        return (TUMOUR if told else "", False)
    for own in dict.fromkeys((name := "".join(core), name.removesuffix("s"), re.sub(r"tumou?rs?$", "", name))):
        if own in WORDS:
            return WORDS[own], False
    # A number or a letter that stands alone tells grades or groups apart, and what stands in front of a word may turn
    # it round (anormal, mothers): none of them is a slip.
    if len(name) >= LONG and name.isalpha() and min(map(len, core)) > 1:
        near = [word for word in WORDS if len(word) >= LONG and word[0] == name[0] and one_slip(name, word)]
        return (WORDS[near[0]], True) if near else ("", False)
    return "", False


def one_slip(one: str, other: str) -> bool:
    """Do two words differ by one letter too many, too few or wrong, or by two neighbours that changed places?"""
    start = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    a, b = one[start:], other[start:]
    return a[1:] == b or a == b[1:] or a[1:] == b[1:] or (a[:2] == b[1::-1] and a[2:] == b[2:])


def doubtful(beside: Iterable[Collection[str]]) -> set[str]:
    """Names with a slip that must not be taken for the word: another that means the same stands beside them.

    Args:
        beside: names of folders that stand beside each other, or of labels of one table.
    """
    found = set()
    for names in beside:
        slips: dict[tuple[str, str], list[str]] = {}
        for name in names:
            own = meaning(name)
            if own.word:
                slips.setdefault((own.word, own.sequence), []).append(name)
        found |= {name for same in slips.values() if len(same) > 1 for name in same if meaning(name).slip}
    return found


def nearest(name: str) -> str:
    """The known word that a name is most like, or that stands in it; empty if none is."""
    words = sorted(tokens(name), key=len, reverse=True)
    for word in words:
        if word in WORDS:
            return WORDS[word]
    near = difflib.get_close_matches("".join(word for word in words if word not in TUMOURS | FILLERS), WORDS, 1, 0.7)
    return WORDS[near[0]] if near else ""


@lru_cache(maxsize=4096)
def side(name: str) -> Side:
    """The side that a folder is called by, ``Val``, ``training_set`` or ``testsets``; empty for none."""
    said = [re.sub(r"\d+$", "", word) for word in tokens(name)]
    own = "".join(word for word in said if word not in FILLERS | {"split", "sample", "samples"})
    spelt = ("".join(said), own, re.sub(r"(?:data(?:set)?|set|image|img)?s?$", "", own))
    return next((SIDES[word] for word in spelt if word in SIDES), "")


def standing(folders: Iterable[str]) -> Side:
    """The side that a file in these folders, from the outermost, stands on: what the innermost called like one says."""
    own: Side = ""
    for name in folders:
        own = side(name) or own
    return own


@lru_cache(maxsize=4096)
def role(name: str) -> Role:
    """What a folder is called by that is no class; empty for every other name."""
    said, whole = told(name), name.strip()
    plain = "".join(said)
    if side(name):
        return "side"
    if sequence(name):
        return "sequence"
    if plain in PLANES or (PLANES & set(said) and _views(said)):
        return "plane"
    if plain in MASKS or {"mask", "masks", "segmentation", "segmentations"} & set(said):
        return "mask"
    if MEASURED.fullmatch(whole):
        return "container"
    if any(AUGMENTED.fullmatch(word) for word in said):
        return "augmented"
    if whole.isdecimal():
        return "digits"
    if PATIENT.fullmatch(whole):
        return "patient"
    negated = len(said) < len(tokens(name)) and FILLERS.issuperset(said)
    return "container" if negated or plain in CONTAINERS or FOLD.fullmatch(whole) else ""


def is_id(name: str) -> bool:
    """May a folder inside a class be a patient's? It has a digit, and is no number of a grade, a series or the like."""
    return bool(re.search(r"\d", name)) and not NUMBERED.match(name.strip())


def numbered_alike(names: Collection[str]) -> bool:
    """Are several names surely ids of patients: one short word with different numbers, P1 and P2, AB001 and AB002?"""
    found = [re.fullmatch(r"([a-z]{1,4})[\W_]?(\d+)", name.strip(), re.IGNORECASE) for name in names]
    own = [match for match in found if match and is_id(match[0]) and not YEAR.fullmatch(match[2])]
    alike = len({match[1].casefold() for match in own}) == 1 and len(own) == len(found) > 1
    return alike and all(match[1].casefold() == "p" or len(match[2]) > 2 for match in own)
