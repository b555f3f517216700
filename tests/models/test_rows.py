"""Networks whose output for one scan depends on what else is in the batch: one at a time, and said."""

import numpy as np
import pytest
import torch
from torch import nn

import napari_cnnvis as cv
from napari_cnnvis.evaluate.trust.deletion import removal_curves
from napari_cnnvis.explain.scoring.occluded_scan import OccludedScan

SIZE = 12


class Net(nn.Module):
    """Two convolutions; `mix` is what happens between them, `end` what happens to the scores."""

    def __init__(self, mix=None, end=None):
        super().__init__()
        torch.manual_seed(0)  # the same weights whatever was run before
        self.a, self.b = nn.Conv3d(1, 4, 3, padding=1), nn.Conv3d(4, 6, 3, stride=2)
        self.mix, self.end = mix or nn.Identity(), end or nn.Identity()
        self.out = nn.Linear(6, 2)

    def forward(self, x):
        x = torch.relu(self.b(torch.relu(self.mix(self.a(x)))))
        return self.end(10 * self.out(x.mean((2, 3, 4))))


class Do(nn.Module):
    def __init__(self, what):
        super().__init__()
        self.what = what

    def forward(self, x):
        return self.what(x)


DEPENDENT = {
    "batch statistics": Net(nn.BatchNorm3d(4, track_running_stats=False)),
    "minus the batch's mean": Net(Do(lambda x: x - x.mean(0, keepdim=True))),
    "standardised over all": Net(Do(lambda x: (x - x.mean()) / (x.std() + 1))),
    "by the batch's maximum": Net(Do(lambda x: x / x.amax())),
    "sorted": Net(Do(lambda x: x.sort(0).values)),
    "softmax over rows": Net(end=Do(lambda y: y * y.softmax(0))),
    "the next row": Net(end=Do(lambda y: y + y.roll(1, 0))),
    "the batch's size": Net(end=Do(lambda y: y * len(y))),
    "attention between rows": Net(end=Do(lambda y: (y @ y.T).softmax(1) @ y)),
}
INDEPENDENT = {
    "plain": Net(),
    "instance norm": Net(nn.InstanceNorm3d(4)),
    "group norm": Net(nn.GroupNorm(2, 4)),
    "batch norm": Net(nn.BatchNorm3d(4)),
    "softmax over classes": Net(end=nn.Softmax(1)),
    "tiny outputs": Net(end=Do(lambda y: 1e-4 * y)),
    "huge outputs": Net(end=Do(lambda y: 1e4 * y)),
}


def scan():
    grid = np.indices((SIZE,) * 3) - (SIZE - 1) / 2
    data = np.random.default_rng(0).random((SIZE,) * 3) + 0.5
    return cv.Volume(np.where((grid**2).sum(0) < 30, data, 0).astype(np.float32))


def model_of(net):
    return cv.Model(net, input_spec=cv.InputSpec((SIZE,) * 3, intensity="none"), device="cpu")


def alone(model, data):
    """Logits of one scan by itself, as the module gives them."""
    with torch.no_grad():
        model.module.eval()
        return model.module(torch.from_numpy(np.ascontiguousarray(data))[None, None])[0].numpy()


@pytest.mark.parametrize("name", DEPENDENT)
def test_it_is_seen(name):
    model = model_of(DEPENDENT[name])
    assert not model.takes_batches(model.tensor(scan().data))


@pytest.mark.parametrize("name", INDEPENDENT)
def test_others_go_together(name):
    model = model_of(INDEPENDENT[name])
    assert model.takes_batches(model.tensor(scan().data))


@pytest.mark.parametrize("name", ["batch statistics", "the next row", "sorted"])
@pytest.mark.parametrize("batch_size", [None, 4])
def test_sensitivity_and_boxes_are_those_of_single_passes(name, batch_size):
    torch.manual_seed(1)
    model, volume = model_of(DEPENDENT[name]), scan()
    labels = np.ravel_multi_index([i // 4 for i in np.indices((SIZE,) * 3)], (3, 3, 3)) + 1
    tree = cv.Hierarchy.from_levels([labels])
    for engine in ("auto", "incremental", "full"):
        found = cv.sensitivity(model, volume, tree, 0, baseline=0, quantity="drop", score="logit", engine=engine, batch_size=batch_size)  # fmt: skip
        clean, want = alone(model, volume.data)[0], np.zeros((SIZE,) * 3)
        for label in range(1, 28):
            occluded = np.where(labels == label, np.float32(0), volume.data)
            want[labels == label] = clean - alone(model, occluded)[0]
        np.testing.assert_allclose(found.data, want, atol=1e-5)
        assert np.abs(want).max() > 1e-3
        assert any("one at a time" in note for note in found.notes)
        assert "one at a time" in found.provenance["engine"]["text"]
    boxes = cv.box_sensitivity(model, volume, 0, size=3, stride=3, baseline=0, score="logit", inside=None, batch_size=batch_size)  # fmt: skip
    centre = (4, 7, 4)
    occluded = volume.data.copy()
    occluded[3:6, 6:9, 3:6] = 0
    assert boxes.data[centre] == pytest.approx(clean - alone(model, occluded)[0], abs=1e-5)
    assert any("one at a time" in note for note in boxes.notes)


def test_deletion_curves_are_those_of_single_passes():
    torch.manual_seed(1)
    model, volume = model_of(DEPENDENT["batch statistics"]), scan()
    occluded = OccludedScan(model, volume, 0)
    head = volume.data > 0
    order = np.random.default_rng(0).random((SIZE,) * 3).astype(np.float32)
    curves = removal_curves(model, occluded, order, 0, head, steps=4, random_orders=1, score="logit", seed=0)  # fmt: skip
    assert curves.deletion.map[0] == pytest.approx(alone(model, volume.data)[0], abs=1e-4)
    empty = np.where(head, np.float32(0), volume.data)
    assert curves.deletion.map[-1] == pytest.approx(alone(model, empty)[0], abs=1e-4)
    assert curves.engine.endswith("by single passes")


def test_it_is_tried_on_a_small_input_where_the_network_takes_one(monkeypatch):
    model = cv.Model(
        nn.Sequential(nn.Conv3d(1, 2, 3), nn.AdaptiveAvgPool3d(1), nn.Flatten()), device="cpu"
    )
    shapes, plain = [], model.logits
    monkeypatch.setattr(model, "logits", lambda x: shapes.append(tuple(x.shape)) or plain(x))
    assert model.takes_batches(torch.rand(1, 1, 48, 40, 44))
    assert shapes == [(1, 1, 32, 32, 32), (1, 1, 32, 32, 32), (2, 1, 32, 32, 32)]
    assert model.pass_seconds(torch.rand(1, 1, 48, 40, 44)) > 0
    assert shapes[3:] == [(1, 1, 48, 40, 44)]


def test_it_is_tried_once_for_each_shape(monkeypatch):
    model = model_of(INDEPENDENT["plain"])
    x, passes = model.tensor(scan().data), []
    plain = model.logits
    monkeypatch.setattr(model, "logits", lambda x: passes.append(len(x)) or plain(x))
    assert model.takes_batches(x)
    assert model.takes_batches(x.clone())
    assert passes == [1, 1, 2]


@pytest.mark.parametrize("name", DEPENDENT)
@pytest.mark.parametrize("size", [40, 33])
def test_it_is_seen_also_where_the_middle_of_the_scan_is_empty(name, size):
    net = DEPENDENT[name]
    model = cv.Model(net, input_spec=cv.InputSpec(intensity="none"), device="cpu")
    x = torch.zeros(1, 1, size, size, size)
    x[..., 0] = 1
    assert not model.takes_batches(x)


@pytest.mark.parametrize("faster", ["channels last", "as in training"])
def test_the_faster_layout_is_kept(monkeypatch, faster):
    net = nn.Sequential(nn.Conv3d(2, 4, 3), nn.AdaptiveAvgPool3d(1), nn.Flatten())
    spec = cv.InputSpec(intensity="none", channels=2)
    model = cv.Model(net, input_spec=spec, device="cpu")
    x = torch.rand(1, 2, 8, 8, 8)
    before = model.logits(x)

    def seconds(rows, given):
        last = net[0].weight.is_contiguous(memory_format=torch.channels_last_3d)
        return 1.0 if last == (faster == "channels last") else 2.0

    monkeypatch.setattr("napari_cnnvis.models.rows.Rows.seconds", seconds)
    values = net[0].weight.detach().clone()
    for _ in range(2):
        model.use_faster_layout(x)
        last = net[0].weight.is_contiguous(memory_format=torch.channels_last_3d)
        assert last == (faster == "channels last")
        assert model.arranged(x).is_contiguous(memory_format=torch.channels_last_3d) == last
    assert torch.equal(net[0].weight, values)
    torch.testing.assert_close(model.logits(model.arranged(x)), before)


@pytest.mark.parametrize("size", [40, 111, 130])
def test_it_is_tried_on_the_only_size_that_a_network_takes(size):
    class OneSize(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = (
                nn.Conv3d(1, 2, 3, stride=4),
                nn.Linear(2 * ((size - 3) // 4 + 1) ** 3, 2),
            )

        def forward(self, x):
            return self.b(torch.relu(self.a(x)).flatten(1))

    spec = cv.InputSpec(shape=(size,) * 3, intensity="none")
    model = cv.Model(OneSize(), input_spec=spec, device="cpu")
    assert model.takes_batches(torch.rand(1, 1, size, size, size))
