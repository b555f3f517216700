"""Scans with a planted region, and networks that look there."""

import numpy as np
import torch
from torch import nn

import napari_cnnvis as cv
from napari_cnnvis.evaluate.benchmark.options import BenchmarkOptions

SHAPE = (16, 17, 15)


AFFINE = np.diag([-2.0, 2.0, 2.0, 1.0])


ROIS = {"left": (3,), "both": (3, 4)}


ALL = BenchmarkOptions(
    size=3,
    stride=3,
    levels=(12, 6),
    margins=(2,),
    baselines=(0, "border"),
    quantities=("drop", "absolute"),
)


def write(data, path):
    cv.write_volume(cv.Volume(np.asarray(data, np.float32), AFFINE), path)


def make_model(offset=-0.6, cells=1):
    """With one cell its score is the mean of what exceeds an intensity: that is its CAM, too."""
    module = nn.Sequential(
        nn.Conv3d(1, 1, 1),
        nn.ReLU(),
        nn.AdaptiveAvgPool3d(cells),
        nn.Flatten(),
        nn.Linear(cells**3, 2),
    )
    with torch.no_grad():
        module[0].weight.fill_(1)
        module[0].bias.fill_(offset)
        module[-1].weight[:] = torch.tensor([[-20.0], [20.0]])
        module[-1].bias.fill_(0)
    spec = cv.InputSpec(intensity="none")
    return cv.Model(module, class_names=["control", "AD"], input_spec=spec, device="cpu")
