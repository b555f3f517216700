"""How to read the map of each method, with its known weaknesses, in plain words."""

from __future__ import annotations

__all__ = ["READING", "how_to_read"]

_COARSE = (
    "The map is as coarse as the layer: one cell covers a block of the scan, and what is drawn between "
    "cells is interpolation. 'Native cells' in the panel Inspect shows the cells themselves."
)
_PLACE = (
    "Where a cell is drawn need not be where its receptive field is centred; the map's note says how "
    "far apart they are."
)
_BASELINE = (
    "What the map says depends on what voxels are replaced by. Zero looks like CSF on T1, so that it "
    "can turn a map of atrophy upside down. Run several baselines and look at how far they disagree."
)
_NOT_PROOF = (
    "A map shows what the network responded to, not what is ill, and not that the network is right."
)

#: by the name of the method: what a value means, then what to beware of
READING: dict[str, tuple[str, ...]] = {
    "CAM": (
        "Each cell's share of the class's logit: the mean over all cells, plus the bias, is the logit. "
        "Warm speaks for the class, cold against it. It is exact for networks that end in global average "
        "pooling and one linear layer.",
        _COARSE,
    ),
    "Grad-CAM": (
        "The layer's maps, each weighted by how the score changes with it on average. Warm: more of "
        "what the layer sees here would raise the score.",
        "Averaging the gradient over the whole layer can mark places that the network did not use "
        "(compare with HiResCAM). With ReLU, what speaks against the class is hidden.",
        _COARSE,
        _PLACE,
    ),
    "Grad-CAM++": (
        "As Grad-CAM, but within each map places with a positive gradient count for more.",
        "Its weights have no unit; compare patterns, not values. It tends to mark more than Grad-CAM.",
        _COARSE,
        _PLACE,
    ),
    "HiResCAM": (
        "Each cell's activation times its own gradient: what the cell adds to the score, to first "
        "order. Exact where the network is linear after the layer.",
        "Noisier than Grad-CAM in early layers.",
        _COARSE,
        _PLACE,
    ),
    "LayerCAM": (
        "Each cell's activation times its own gradient where that is positive. Made for early layers, "
        "which are fine but know little.",
        "What speaks against the class is never shown. Early layers mark edges whatever the network has "
        "learned: compare with a network of random weights.",
        _PLACE,
    ),
    "UCM sensitivity": (
        "How far the score drops when the supervoxel that contains a voxel is replaced by the baseline, "
        "joined over several levels. Warm: the network needs this region for the class.",
        _BASELINE,
        "Two regions that say the same hide each other: either can go without a drop. What is spread "
        "over many small regions, such as thin cortex, shows little.",
        "A region's outline can stay visible when its inside is replaced; a margin of some millimetres "
        "takes it away, and marks what lies within it as well.",
        "A region's drop varies with where its outline happens to run; smoothing by about the size of the "
        "regions (12 mm) found simulated changes far better. The size of the drop finds what matters, "
        "its sign whether replacing it by the baseline speaks for or against the class.",
    ),
    "Box occlusion": (
        "How far the score drops when a cube around the voxel is replaced by the baseline.",
        _BASELINE,
        "Blind to what is larger than the cube; a cube cuts across anatomy, so that its edges are seen by "
        "the network as well.",
    ),
    "Difference": (
        "One map minus another, voxel by voxel, in the unit that both have.",
        "Maps of different methods or scores have different units; their difference means little.",
    ),
}


def how_to_read(method: str) -> tuple[str, ...]:
    """Paragraphs on the map of a method (by its name, such as "Grad-CAM"); the last holds for all."""
    return (*READING.get(method, ()), _NOT_PROOF)
