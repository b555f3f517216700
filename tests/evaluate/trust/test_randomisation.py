import copy
import hashlib
import threading

import numpy as np
import pytest
import torch
from torch import nn

from napari_cnnvis.errors import ComputeError, MethodError
from napari_cnnvis.evaluate.trust.randomisation import (
    cascade,
    copy_of,
    layers_with_parameters,
    randomise,
)
from napari_cnnvis.models.model import Model
from napari_cnnvis.scan.conform import InputSpec

SHAPE = (10, 10, 10)
INPUT = InputSpec(SHAPE, intensity="none")
INSIDE = np.ones(SHAPE, bool)


class Own(nn.Module):
    """A parameter without reset_parameters."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor([1.0, 2.0, 3.0, 4.0]))

    def forward(self, x):
        return x * self.scale.view(1, -1, 1, 1, 1)


class Net(nn.Module):
    """Registered in another order than it runs."""

    def __init__(self):
        super().__init__()
        self.last = nn.Linear(4, 2)
        self.second = nn.Sequential(Own(), nn.BatchNorm3d(4), nn.ReLU(inplace=True))
        self.first = nn.Conv3d(1, 4, 3, padding=1)

    def forward(self, x):
        return self.last(self.second(self.first(x)).mean((2, 3, 4)))


@pytest.fixture
def model():
    torch.manual_seed(0)
    net = Net().train()
    net.second[1].running_mean.normal_()
    net.first.bias.requires_grad_(False)
    net.last.weight.grad = torch.ones_like(net.last.weight)
    net.first.register_forward_hook(lambda *_: None)
    return Model(net, None, INPUT, "cpu")


@pytest.fixture
def example(model):
    return model.tensor(np.random.default_rng(0).random(SHAPE))


def state_of(module):
    """Everything about a network that has to stay."""
    digest = hashlib.sha256()
    for name, tensor in module.state_dict().items():
        digest.update(name.encode() + tensor.contiguous().numpy().tobytes())
    return (
        digest.hexdigest(),
        [id(p) for p in module.parameters()],
        [
            (p.requires_grad, None if p.grad is None else p.grad.tolist())
            for p in module.parameters()
        ],
        [(m.training, getattr(m, "inplace", None)) for m in module.modules()],
        [len(m._forward_hooks) for m in module.modules()],
    )


def first_layer(model):
    """A map: the first layer's second channel."""
    x = model.tensor(np.random.default_rng(0).random(SHAPE))
    with torch.no_grad():
        return model.module.first(x)[0, 1].numpy()


def test_layers_come_in_the_order_in_which_they_run(model, example):
    assert layers_with_parameters(model, example) == ["first", "second.0", "second.1", "last"]


def test_the_cascade_goes_from_the_output_to_the_input(model, example):
    found = cascade(model, first_layer, first_layer(model), INSIDE, example, repeats=1)
    assert [row.layer for row in found.rows] == ["last", "second.1", "second.0", "first"]
    assert [row.layers for row in found.rows] == [1, 2, 3, 4]
    assert found.n_layers == 4
    # only the last step reaches the layer that the map shows
    assert [row.similarity.spearman for row in found.rows[:3]] == pytest.approx([1, 1, 1])
    assert found.rows[3].similarity.spearman < 0.99
    ends = [found.rows[3].similarity.strongest, found.repeats[0].strongest]
    assert found.remaining == pytest.approx(np.mean(ends))


def test_layers_are_grouped(model, example):
    found = cascade(model, first_layer, first_layer(model), INSIDE, example, stages=2, repeats=0)
    assert [row.layers for row in found.rows] == [2, 4]
    assert [row.layer for row in found.rows] == ["second.1", "first"]


def test_the_network_is_left_bit_for_bit(model, example):
    before = state_of(model.module)
    cascade(model, first_layer, first_layer(model), INSIDE, example)
    assert state_of(model.module) == before


def test_the_network_is_left_after_errors(model, example):
    before = state_of(model.module)
    calls = []

    def fails(random):
        calls.append(random)
        if len(calls) == 2:
            raise ComputeError("Out of memory.")
        return first_layer(random)

    with pytest.raises(ComputeError):
        cascade(model, fails, first_layer(model), INSIDE, example)
    assert state_of(model.module) == before


def test_the_network_is_left_after_cancelling(model, example):
    before = state_of(model.module)
    cancel = threading.Event()

    def stops(random):
        cancel.set()
        return first_layer(random)

    assert cascade(model, stops, first_layer(model), INSIDE, example, cancel=cancel) is None
    assert cascade(model, lambda _: None, first_layer(model), INSIDE, example) is None
    assert state_of(model.module) == before


def test_torchs_random_state_is_left_and_seeds_repeat(model, example):
    torch.manual_seed(7)
    before = torch.get_rng_state()
    one, two, other = (
        cascade(model, first_layer, first_layer(model), INSIDE, example, seed=seed)
        for seed in (1, 1, 2)
    )
    assert torch.equal(torch.get_rng_state(), before)
    assert one.to_dict() == two.to_dict() != other.to_dict()


def test_every_parameter_and_buffer_becomes_random(model, example):
    changed = copy_of(model)
    names = layers_with_parameters(changed, example)
    randomise(changed, names, 0)
    old, new = model.module.state_dict(), changed.module.state_dict()
    fixed = {"second.1.weight", "second.1.bias", "second.1.num_batches_tracked"}
    fixed |= {"second.1.running_var"}  # ones and zeros before and after
    for name in old.keys() - fixed:
        assert not torch.equal(old[name], new[name]), name
    assert not new["second.1.running_mean"].any()


def test_noise_keeps_a_parameters_deviation(model):
    changed = copy_of(model)
    scales = []
    for seed in range(200):
        changed.module.second[0].scale.data.copy_(torch.tensor([1.0, 2.0, 3.0, 4.0]))
        randomise(changed, ["second.0"], seed)
        scales.append(changed.module.second[0].scale.tolist())
    assert np.mean(scales) == pytest.approx(2.5, abs=0.2)
    assert np.std(scales) == pytest.approx(np.std([1, 2, 3, 4], ddof=1), rel=0.1)


def test_he_initialisation(model):
    changed = copy_of(model)
    randomise(changed, ["first", "last"], 0, "he")
    assert not changed.module.first.bias.any()
    assert changed.module.first.weight.detach().std().item() == pytest.approx(
        np.sqrt(2 / 27), rel=0.2
    )


def test_an_empty_map_is_no_likeness(model, example):
    found = cascade(
        model, lambda _: np.zeros(SHAPE), first_layer(model), INSIDE, example, repeats=0
    )
    assert found.remaining == 0


def test_networks_that_cannot_be_copied_or_have_no_weights_are_refused(model, example, plain):
    class Stubborn(Net):
        def __deepcopy__(self, memo):
            raise RuntimeError("no")

    stubborn = Model(Stubborn(), None, INPUT, "cpu")
    empty = Model(nn.Sequential(nn.AvgPool3d(5), nn.Flatten()), None, INPUT, "cpu")
    for one in (stubborn, empty):
        with pytest.raises(MethodError) as error:
            cascade(one, first_layer, np.zeros(SHAPE), INSIDE, example)
        plain(error.value)


def test_a_copy_gives_the_same_scores(model, example):
    assert torch.equal(copy_of(model).logits(example), model.logits(example))
    assert copy_of(model).class_names == model.class_names
    value = Model(copy.deepcopy(model.module), ["age", "mass"], INPUT, "cpu", output="regression")
    assert copy_of(value).class_names == value.class_names
