"""A method of another package: gradient times input (Shrikumar et al. 2016, arXiv:1605.01713)."""

from dataclasses import dataclass

import torch

from napari_cnnvis.explain.attribution import Attribution
from napari_cnnvis.explain.common_parameters import score
from napari_cnnvis.explain.method import Method
from napari_cnnvis.explain.parameter import parameter
from napari_cnnvis.explain.record import Record
from napari_cnnvis.scan.volume import channels_of


@dataclass(frozen=True)
class GradientTimesInput(Method):
    """Each voxel's value times the gradient of the score there."""

    key = "gradient-x-input"
    title = "Gradient x input"
    tip = "Each voxel times the gradient of the score there."
    reading = ("To first order, what each voxel adds to the score.",)

    score: str = score("logit")
    power: float = parameter(1.0, "Power", "Of the size of the product.", low=0.5, high=2)
    positive: bool = parameter(False, "Only what supports the class", "Drops negative values.")

    def run(self, model, volume, target, *, hierarchy=None, progress=None, cancel=None):
        index, conformed = model.class_index(target), model.conform(volume)
        x = model.tensor(conformed.channels).requires_grad_()
        value = model.outputs.score(model.module(x), index, self.score)[0]
        (gradient,) = torch.autograd.grad(value, x)
        data = (gradient * x).detach()[0].sum(0).cpu().numpy()
        data = (abs(data) ** self.power) * (1 if self.positive else (data > 0) * 2.0 - 1)
        record = Record.of_run(self, model, volume, conformed, index)
        scan = channels_of(volume)[0]
        return Attribution(conformed.back(data), scan.affine, record, scan)
