"""Words that a reader of the report may not know: shown when one is pointed at, and as a list at the end for print."""

from __future__ import annotations

# What heat-maps are held against; the table of the methods itself would make the report depend on their code.
FLOORS = {
    "map": "Grad-CAM",
    "uniform": "uniform map",
    "random": "random map",
    "centre": "centre Gaussian",
    "edges": "edge map",
}
TERMS = {
    "balanced accuracy": "mean over the classes of the share of its images that is found",
    "calibration error": "how far confidence and accuracy are apart: root mean square over bins of equally many "
    "images, less what chance alone makes of it",
    "canary": "a nearest neighbour on small grey pixels, which learns nothing: what it gets right needs no encoder",
    "copy": "an image that shows the same slice as another: the same pixels, or the same after scaling, cutting or "
    "turning",
    "effective rank": "in how many directions the features really vary; near 1 they have collapsed",
    "external test": "a test side of a source of which nothing was trained on",
    "fine-tuning": "training all layers, from the pretrained weights on",
    "floor": "what is reached without learning anything: the most frequent class, or raw pixels",
    "interval": "where the true value lies in 95 of 100 such test sides, as far as the choice of test images goes",
    "linear probe": "a linear classifier on the features of an encoder that stays as it is",
    "map that knows nothing": "a heat-map made without the classifier: uniform, random, a blob in the centre, edges",
    "random weights": "the same network, not pretrained",
    "ROAD": "remove and debias: pixels are taken out in the order of a heat-map and filled in from their neighbours",
    "temperature": "a number by which all outputs are divided, so that confidence fits accuracy; it changes no class",
    "unit": "what a split must not tear apart: all copies of an image and, where known, all images of a patient",
}
