"""The table of heat-map methods: what the parameters, the command, the pages, the charts and the dispatch read.

A new method is one row here, its function, and its test. The module imports neither torch nor anything of the project,
so that the parameters can be checked against it; the functions are named, and loaded by who calls them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal

CLASS_SCORE = "tumorxai.explain.cams:class_score"


@dataclass(frozen=True)
class Method:
    """One row.

    Attributes:
        title: for people.
        shows: in one line, what a map of it is.
        function: ``MODULE:NAME``. It gives maps (B, h, w) of any scale, NaN refused by the caller, out of what it
            ``needs``.
        needs: ``gradients``: of the score at the layer; the function takes the layer's activations and those, each
            (B, J, h, w). ``activations``: those alone. ``attention``: it takes the model and the images. ``passes``,
            many of them for each image, and ``all gradients``, at every layer: it takes the
            :class:`~tumorxai.explain.explainer.Explainer`, the images and the classes (B,).
        source: paper and where in it: authors, year, arXiv or DOI.
        networks: that it works with; on others it is skipped with a reason.
        by_class: whether the map depends on the explained class.
        score: ``MODULE:NAME`` of what is differentiated, given the classes (B,); read for ``gradients`` alone.
    """

    title: str
    shows: str
    function: str
    needs: Literal["gradients", "activations", "passes", "all gradients", "attention"]
    source: str
    networks: str = "all"
    by_class: bool = True
    score: str = CLASS_SCORE

    @property
    def of_similarity(self) -> bool:
        """Whether it explains any score, and so the similarity of two images, not only a class's."""
        return self.needs == "gradients" and self.score == CLASS_SCORE


METHODS = {
    "grad_cam": Method(
        "Grad-CAM",
        "channels of one layer, weighted by their mean gradient",
        "tumorxai.explain.cams:grad_cam",
        "gradients",
        "Selvaraju et al. 2016, 1610.02391, Eqs. 1, 2",
    ),
    "grad_cam_plus_plus": Method(
        "Grad-CAM++",
        "the same with weights for each place",
        "tumorxai.explain.cams:grad_cam_plus_plus",
        "gradients",
        "Chattopadhyay et al. 2017, 1710.11063, Eqs. 5, 19",
    ),
    "layer_cam": Method(
        "LayerCAM",
        "activations weighted place by place by their positive gradients",
        "tumorxai.explain.cams:layer_cam",
        "gradients",
        "Jiang et al. 2021, IEEE TIP 30:5875, Eqs. 5, 6",
    ),
    "eigen_cam": Method(
        "EigenCAM",
        "first principal component of the activations",
        "tumorxai.explain.cams:eigen_cam",
        "activations",
        "Muhammad and Yeasin 2020, 2008.00299",
        by_class=False,
    ),
    "hires_cam": Method(
        "HiResCAM",
        "activations times gradients, place by place: only what raised the score",
        "tumorxai.explain.cams:hires_cam",
        "gradients",
        "Draelos and Carin 2020, 2011.08891",
    ),
    "x_grad_cam": Method(
        "XGradCAM",
        "channels weighted by their gradients' mean, in shares of their activation",
        "tumorxai.explain.cams:x_grad_cam",
        "gradients",
        "Fu et al. 2020, 2008.02312",
    ),
    "grad_cam_elementwise": Method(
        "Grad-CAM elementwise",
        "the positive products of activation and gradient",
        "tumorxai.explain.cams:grad_cam_elementwise",
        "gradients",
        "pytorch-grad-cam; Grad-CAM without its mean, after 1610.02391",
    ),
    "eigen_grad_cam": Method(
        "EigenGradCAM",
        "first principal component of activations times gradients",
        "tumorxai.explain.cams:eigen_grad_cam",
        "gradients",
        "pytorch-grad-cam, after Muhammad and Yeasin 2020, 2008.00299",
    ),
    "kpca_cam": Method(
        "KPCA-CAM",
        "first kernel principal component of the activations",
        "tumorxai.explain.cams:kpca_cam",
        "activations",
        "Karmani et al. 2024, 2410.00267",
        by_class=False,
    ),
    "finer_cam": Method(
        "Finer-CAM",
        "Grad-CAM of what tells the class from the three most similar ones",
        "tumorxai.explain.cams:grad_cam",
        "gradients",
        "Zhang et al. 2025, 2501.11309",
        score="tumorxai.explain.cams:finer_score",
    ),
    "score_cam": Method(
        "Score-CAM",
        "channels weighted by the score of the image seen through them",
        "tumorxai.explain.many_passes:score_cam",
        "passes",
        "Wang et al. 2019, 1910.01279",
    ),
    "ablation_cam": Method(
        "Ablation-CAM",
        "channels weighted by what the score loses without them",
        "tumorxai.explain.many_passes:ablation_cam",
        "passes",
        "Desai and Ramaswamy 2020, WACV, 10.1109/WACV45572.2020.9093360",
    ),
    "fullgrad": Method(
        "FullGrad",
        "gradients of the input and of every bias, added up",
        "tumorxai.explain.fullgrad:fullgrad",
        "all gradients",
        "Srinivas and Fleuret 2019, 1905.00780",
        networks="convolutions with batch normalisation",
    ),
    "vit_cx": Method(
        "ViT-CX",
        "causal effect of masks made of clustered features",
        "tumorxai.explain.vit_cx:heat_maps",
        "passes",
        "Xie et al. 2022, 2211.03064",
    ),
    "occlusion": Method(
        "occlusion",
        "drop of the probability when a window is hidden",
        "tumorxai.explain.occlusion:heat_maps",
        "passes",
        "Zeiler and Fergus 2013, 1311.2901",
    ),
    "attention_rollout": Method(
        "attention rollout",
        "attention multiplied through all blocks",
        "tumorxai.explain.attention:attention_rollout",
        "attention",
        "Abnar and Zuidema 2020, 2005.00928",
        networks="transformers whose tokens all attend to each other",
        by_class=False,
    ),
    "last_attention": Method(
        "last attention",
        "attention of the class token in the last block",
        "tumorxai.explain.attention:last_attention",
        "attention",
        "Caron et al. 2021, 2104.14294",
        networks="transformers whose tokens all attend to each other",
        by_class=False,
    ),
}
# Maps that know nothing of the classifier, by their titles.
FLOORS = {"uniform": "uniform map", "random": "random map", "centre": "centre Gaussian", "edges": "edge map"}
NAMES = {name: method.title for name, method in METHODS.items()} | FLOORS


def markdown() -> str:
    """The table for the documentation."""
    head = "| name | title | what it shows | class | needs | networks | source |\n|---|---|---|---|---|---|---|\n"
    rows = [
        (f"`{name}`", row.title, row.shows, "yes" if row.by_class else "no", row.needs, row.networks, row.source)
        for name, row in METHODS.items()
    ]
    return head + "".join(f"| {' | '.join(row)} |\n" for row in rows)


def load(reference: str) -> Callable[..., Any]:
    """The function that a row names.

    Args:
        reference: ``MODULE:NAME``.
    """
    module, _, name = reference.partition(":")
    function: Callable[..., Any] = getattr(import_module(module), name)
    return function
