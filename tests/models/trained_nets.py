"""Networks with weights that differ from fresh ones."""

import torch
from torch import nn

from napari_cnnvis.models.networks.vox import VoxResNet, VoxResNetGAP, VoxVGG

NETS = [VoxVGG, VoxResNet, VoxResNetGAP]


BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm3d)


def trained(net, **arguments):
    """A network with random weights, and random BatchNorm statistics as training leaves them."""
    torch.manual_seed(0)
    module = net(**arguments)
    with torch.no_grad():
        for layer in module.modules():
            if isinstance(layer, BATCH_NORMS):
                layer.running_mean.normal_(0, 0.1)
                layer.running_var.uniform_(0.5, 2)
                layer.weight.uniform_(0.5, 1.5)
                layer.bias.normal_(0, 0.1)
    return module


def saved(content, path):
    torch.save(content, path)
    return path


def assert_same_weights(module, expected, **tolerance):
    state, wanted = module.state_dict(), expected.state_dict()
    assert state.keys() == wanted.keys()
    for name, tensor in wanted.items():
        if not name.endswith("num_batches_tracked"):
            torch.testing.assert_close(state[name], tensor, **(tolerance or {"rtol": 0, "atol": 0}))


class Wrapper(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv3d(1, 2, 3), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(2, 2)
        )

    def forward(self, x):
        return self.net(x)


SAVED_FROM, EARLIER = (
    "Name the network that these weights were saved from",
    "take an earlier checkpoint",
)
