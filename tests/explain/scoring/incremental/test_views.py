"""A view of a map that outlives a step which could be done in place: the engine is right all the same.

The product of what makes a view, what may be done in place afterwards, and regions whose boxes
span the grid (then nothing is copied on the way) or lie inside it.
"""

import numpy as np
import pytest
import torch
from torch import nn

import napari_cnnvis as cv

SIZE, CHANNELS = 8, 4


def _same(x):
    return x


#: maps (n, 4, 8, 8, 8) to something of which a mean over all but two axes can be taken
VIEWS = {
    "slice of space": lambda x: x[:, :, ::2, 1:, :-1],
    "slice of channels": lambda x: x[:, 1:3],
    "one position": lambda x: x[:, :, 3],
    "narrow": lambda x: x.narrow(2, 1, 5),
    "chunk": lambda x: x.chunk(2, 1)[1],
    "split": lambda x: x.split([1, 3], 1)[1],
    "unbind": lambda x: x.unbind(2)[2],
    "reshape": lambda x: x.reshape(x.shape[0], 2, 2, SIZE, SIZE, SIZE),
    "view": lambda x: x.view(x.shape[0], CHANNELS, -1),
    "flatten": lambda x: x.flatten(2),
    "permute": lambda x: x.permute(0, 1, 4, 2, 3),
    "transpose": lambda x: x.transpose(2, 4),
    "channels last": lambda x: x.movedim(1, -1).movedim(-1, 1),
    "unsqueeze": lambda x: x.unsqueeze(2),
    "squeeze": lambda x: x.unsqueeze(2).squeeze(2),
    "expand": lambda x: x.unsqueeze(2).expand(-1, -1, 2, -1, -1, -1),
    "identity": _same,
    "dropout": nn.Dropout(0.5),
    "detach": lambda x: x.detach(),
    "contiguous": lambda x: x.contiguous(),
    "to": lambda x: x.to(torch.float32),
    "alias of a view": lambda x: x[:, 1:].detach()[:, :, 1:].contiguous(),
    "windows": lambda x: x.unfold(2, 3, 2),
    "diagonal": lambda x: x.diagonal(0, 2, 3),
}
#: may write into its input
STEPS = {
    "relu": torch.relu,
    "relu_": lambda x: x.relu_(),
    "nn.ReLU(inplace)": nn.ReLU(inplace=True),
    "silu": nn.functional.silu,
    "sigmoid": torch.sigmoid,
    "leaky relu": lambda x: nn.functional.leaky_relu(x, inplace=True),
    "add_": lambda x: x.add_(1),
    "mul_": lambda x: x.mul_(-2),
    "batch norm": nn.BatchNorm3d(CHANNELS),
}


class Net(nn.Module):
    """Keeps a view of a convolution's output, goes on with a step, and uses both."""

    def __init__(self, view, step):
        super().__init__()
        self.a = nn.Conv3d(1, CHANNELS, 3, padding=1)
        self.b = nn.Conv3d(CHANNELS, CHANNELS, 3, padding=1)
        self.view, self.step = view, step
        self.out = nn.Linear(2 * CHANNELS, 2)

    def forward(self, x):
        x = self.a(x)
        writes = self.step is STEPS["relu_"] or self.step in (STEPS["add_"], STEPS["mul_"])
        writes |= self.step is STEPS["leaky relu"] or isinstance(self.step, nn.ReLU)
        kept = self.view(x.clone() if writes else x)  # what writes by itself is not ours to judge
        after = self.b(self.step(x)).mean((2, 3, 4))
        kept = kept.flatten(2) if kept.ndim > 2 else kept
        kept = kept.mean(2) if kept.ndim > 2 else kept
        kept = kept.repeat(1, CHANNELS)[:, :CHANNELS]
        return self.out(torch.cat([after, kept], 1))


def scan():
    return np.random.default_rng(0).random((SIZE,) * 3).astype(np.float32) + 0.5


def regions():
    """Two checkerboards, whose boxes span the grid, and a few cubes inside it."""
    labels = np.indices((SIZE,) * 3).sum(0) % 2 + 1
    labels[2:4, 2:4, 2:4], labels[5:7, 1:3, 4:6], labels[1:3, 5:8, 5:8] = 3, 4, 5
    return labels


PAIRS = [(v, s) for v in VIEWS for s in ("relu", "batch norm")]
PAIRS += [(v, s) for v in ("slice of space", "chunk", "reshape") for s in STEPS]


@pytest.mark.parametrize(("view", "step"), sorted(set(PAIRS)))
def test_the_view_keeps_its_values(view, step):
    torch.manual_seed(0)
    net = Net(VIEWS[view], STEPS[step]).eval()
    data, labels = scan(), regions()
    model = cv.Model(net, input_spec=cv.InputSpec((SIZE,) * 3, intensity="none"), device="cpu")
    tree = cv.Hierarchy.from_levels([labels])
    found = cv.sensitivity(
        model, cv.Volume(data), tree, 0, baseline=0, score="logit", engine="incremental"
    )
    want = np.zeros_like(data)
    with torch.no_grad():
        clean = net(torch.from_numpy(data)[None, None])[0, 0].item()
        for label in np.unique(labels):
            occluded = np.where(labels == label, np.float32(0), data)
            drop = clean - net(torch.from_numpy(occluded)[None, None])[0, 0].item()
            want[labels == label] = drop
    assert np.abs(want).max() > 1e-3
    assert found.provenance["engine"]["engine"] == "incremental"  # not by way of a self-check
    np.testing.assert_allclose(found.data, want, atol=1e-5)


@pytest.mark.parametrize(
    "same",
    [
        lambda x: nn.functional.dropout(x, 0.5, training=False),
        lambda x: nn.functional.dropout3d(x, 0.5, training=False),
        lambda x: nn.functional.alpha_dropout(x, 0.5, training=False),
        nn.Dropout3d(0.5),
        lambda x: x.contiguous(),
        lambda x: x.to(torch.float32),
        lambda x: x.detach(),
        lambda x: x[:],
    ],
)
def test_what_writes_into_the_same_map_under_another_name(same):
    class Writes(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.out = nn.Conv3d(1, CHANNELS, 3, padding=1), nn.Linear(2 * CHANNELS, 2)
            self.same = same

        def forward(self, x):
            x = self.a(x)
            after = self.same(x).relu_()
            return self.out(torch.cat([after.amax((2, 3, 4)), x.mean((2, 3, 4))], 1))

    torch.manual_seed(0)
    net, data, labels = Writes().eval(), scan(), regions()
    model = cv.Model(net, input_spec=cv.InputSpec((SIZE,) * 3, intensity="none"), device="cpu")
    tree = cv.Hierarchy.from_levels([labels])
    found = cv.sensitivity(
        model, cv.Volume(data), tree, 0, baseline=0, score="logit", engine="incremental"
    )
    with torch.no_grad():
        clean = net(torch.from_numpy(data)[None, None])[0, 0].item()
        for label in np.unique(labels):
            occluded = np.where(labels == label, np.float32(0), data)
            drop = clean - net(torch.from_numpy(occluded)[None, None])[0, 0].item()
            np.testing.assert_allclose(found.data[labels == label], drop, atol=1e-5)
    assert found.provenance["engine"]["engine"] == "incremental"


def test_the_largest_region_is_always_computed_both_ways():
    from napari_cnnvis.explain.scoring.scorer_choice import _probes

    rng = np.random.default_rng(0)
    for n in (1, 2, 3, 4, 7, 50, 1000):
        work = rng.permutation(n).astype(float)
        for most in (1, 2, 3, 4):
            probes = _probes(work, most)
            assert work.argmax() in probes
            assert len(probes) == len(set(probes)) <= most
            assert n < 10 or len(probes) == most
