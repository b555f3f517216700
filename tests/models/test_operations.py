"""How much of the input one cell of a layer sees: all voxels in the listed box, and none outside."""

import numpy as np
import pytest
import torch
from torch import nn

from napari_cnnvis.models.layers import find_layers
from napari_cnnvis.models.layouts import LayerGrid

SHAPE = (31, 33, 35)


class Branches(nn.Module):
    """Branches of unlike reach, and unlike centres, that meet in one map."""

    def __init__(self, join):
        super().__init__()
        self.narrow = nn.Conv3d(1, 1, 1)
        self.wide = nn.Conv3d(1, 1, (3, 5, 3), padding=(1, 2, 1))
        self.aside = nn.Sequential(
            nn.ConstantPad3d((0, 0, 0, 0, 3, 0), 0.0), nn.Conv3d(1, 1, (4, 1, 1))
        )
        self.join = join
        self.out = nn.ReLU()

    def forward(self, x):
        parts = [self.narrow(x), self.wide(x), self.aside(x)]
        if self.join == "sum":
            return self.out(parts[0] + parts[1] + parts[2])
        return self.out(torch.cat(parts, dim=1))


NETS = {
    "convolutions": [nn.Conv3d(1, 1, 3), nn.ReLU(), nn.Conv3d(1, 1, (3, 1, 5))],
    "strides and pools": [nn.Conv3d(1, 1, 3, stride=2), nn.MaxPool3d(2), nn.Conv3d(1, 1, 3)],
    "average pool": [nn.AvgPool3d(3, 2, 1), nn.Conv3d(1, 1, 3)],
    "dilation": [nn.Conv3d(1, 1, 3, dilation=(1, 2, 3)), nn.Conv3d(1, 1, 2)],
    "padding": [nn.ConstantPad3d((1, 0, 3, 2, 0, 4), 0.0), nn.Conv3d(1, 1, 3, stride=2)],
    "norm": [nn.Conv3d(1, 1, 3), nn.BatchNorm3d(1), nn.ReLU()],
}  # fmt: skip


def seen(net, cell, shape):
    """First and last voxel along each axis with a gradient from one cell."""
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.fill_(0.25)
    x = torch.rand(1, 1, *shape, generator=torch.Generator().manual_seed(0)).requires_grad_()
    total = 0
    for _ in range(20):  # a maximum looks at one voxel at a time
        y = net.eval()(x + torch.rand(x.shape, generator=torch.Generator().manual_seed(_)))
        total = total + torch.autograd.grad(y[:, :, *cell].sum(), x)[0].abs()
    where = np.argwhere(total[0, 0].numpy() > 0)
    return where.min(axis=0), where.max(axis=0)


@pytest.mark.parametrize("name", NETS)
def test_box_is_exactly_what_a_cell_sees(name):
    net = nn.Sequential(*NETS[name])
    layer = find_layers(net, (1, *SHAPE)).targets[-1]
    cell = tuple(n // 2 for n in layer.shape)
    centre = np.add(layer.grid.start, np.multiply(layer.grid.step, cell))
    low, high = seen(net, cell, SHAPE)
    np.testing.assert_allclose(centre - np.divide(layer.grid.size, 2) + 0.5, low)
    np.testing.assert_allclose(centre + np.divide(layer.grid.size, 2) - 0.5, high)


@pytest.mark.parametrize("join", ["sum", "concatenation"])
def test_box_holds_all_branches_that_meet(join):
    net = Branches(join)
    layer = next(t for t in find_layers(net, (1, *SHAPE)).targets if t.name == "out")
    cell = tuple(n // 2 for n in layer.shape)
    centre = np.add(layer.grid.start, np.multiply(layer.grid.step, cell))
    low, high = seen(net, cell, SHAPE)
    listed_low = centre - np.divide(layer.grid.size, 2) + 0.5
    listed_high = centre + np.divide(layer.grid.size, 2) - 0.5
    assert (listed_low <= low).all()
    assert (listed_high >= high).all()
    assert layer.grid.size == (7.0, 5.0, 3.0)  # 4 voxels beside the centre, on both sides of it


def test_the_input_itself_sees_one_voxel():
    assert LayerGrid((0.0,) * 3, (1.0,) * 3).size == (1.0, 1.0, 1.0)
