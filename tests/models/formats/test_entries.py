"""Where the weights are in what a file holds."""

import types

import pytest
import torch
from torch import nn

from napari_cnnvis.errors import CheckpointError
from napari_cnnvis.models.checkpoint import load_model
from napari_cnnvis.models.formats.entries import weights_in
from napari_cnnvis.models.formats.read import read_file


def make(seed=0, width=4):
    torch.manual_seed(seed)
    return nn.Sequential(
        *(nn.Conv3d(1, width, 3), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten()),
        nn.Linear(width, 2),
    )


def trained(net):
    """An optimizer after a step, as it is saved."""
    optimizer = torch.optim.Adam(net.parameters())
    net(torch.rand(1, 1, 6, 6, 6)).sum().backward()
    optimizer.step()
    return optimizer.state_dict()


def saved(content, path):
    torch.save(content, path)
    return path


def loaded_first_weight(path, **arguments):
    model = load_model(path, arch=make(seed=9), device="cpu", **arguments)
    return model.module[0].weight.detach(), model.notes


KEYS = [
    *("model_state", "network_weights", "ema", "state_dict_ema", "params", "model_dict"),
    *("generator", "student", "best_model_wts", "G", "encoder_q", "backbone", "weights_only"),
]


@pytest.mark.parametrize("key", KEYS)
def test_weights_under_any_key_are_found_beside_an_optimizer(tmp_path, key):
    net = make()
    content = {"epoch": 3, "optimizer": trained(net), key: net.state_dict(), "loss": 0.3}
    weight, notes = loaded_first_weight(saved(content, tmp_path / "c.pt"))
    assert torch.equal(weight, net[0].weight)
    assert f"weights taken from its entry '{key}'" in notes


NESTED = {
    "two keys": (lambda s: {"checkpoint": {"weights": s}}, "checkpoint.weights"),
    "a list": (lambda s: {"models": [s], "epoch": 1}, "models.0"),
    "a tuple": (lambda s: (s, 12), "0"),
    "three keys": (lambda s: {"a": {"b": {"c": s}}}, "a.b.c"),
}


@pytest.mark.parametrize("case", NESTED)
def test_nested_weights_are_found(tmp_path, case):
    build, place = NESTED[case]
    net = make()
    weight, notes = loaded_first_weight(saved(build(net.state_dict()), tmp_path / "c.pt"))
    assert torch.equal(weight, net[0].weight)
    assert f"weights taken from its entry '{place}'" in notes


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("state_dict", "ema"),
        ("params", "params_ema"),
        ("model", "teacher"),
        ("net_g", "swa_state"),
        ("student", "momentum_encoder"),
    ],
)
def test_of_two_sets_the_averaged_one_is_not_taken_but_named(tmp_path, first, second, order):
    nets = {first: make(1), second: make(2)}
    content = {key: nets[key].state_dict() for key in [first, second][::order]}
    weight, notes = loaded_first_weight(saved(content, tmp_path / "c.pt"))
    assert torch.equal(weight, nets[first][0].weight)
    assert f"there are other weights in '{second}'" in notes


def test_of_several_sets_the_one_that_fits_is_taken(tmp_path):
    content = {"model": make(1, width=6).state_dict(), "other": make(2).state_dict()}
    weight, notes = loaded_first_weight(saved(content, tmp_path / "c.pt"))
    assert torch.equal(weight, make(2)[0].weight)
    assert "only the weights of its entry 'other' fit" in notes


def test_parts_of_a_network_in_several_entries_are_put_together(tmp_path):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.Conv3d(1, 4, 3), nn.ReLU())
            self.top = nn.Linear(4, 2)

        def forward(self, x):
            return self.top(self.body(x).mean((2, 3, 4)))

    net = Net()
    content = {
        "encoder": net.body.state_dict(),
        "classifier": net.top.state_dict(),
        "criterion": {"centres": torch.rand(3, 7)},
        "epoch": 3,
    }
    model = load_model(saved(content, tmp_path / "c.pt"), arch=Net(), device="cpu")
    for key, value in net.state_dict().items():
        assert torch.equal(model.module.state_dict()[key], value)
    assert "weights of several entries put together" in model.notes


class TrainState:
    """A trainer's own object around the weights."""

    def __init__(self, params):
        self.params, self.step = params, 4


@pytest.fixture
def trainer(monkeypatch):
    """A module that is gone when the file is read."""
    import sys

    module = types.ModuleType("their_trainer")
    module.TrainState = TrainState
    monkeypatch.setattr(TrainState, "__module__", "their_trainer")
    monkeypatch.setitem(sys.modules, "their_trainer", module)
    return lambda: monkeypatch.delitem(sys.modules, "their_trainer")


def test_weights_inside_an_unknown_object_are_found(tmp_path, trainer):
    net = make()
    path = saved({"state": TrainState(net.state_dict())}, tmp_path / "c.pt")
    trainer()
    weight, notes = loaded_first_weight(path)
    assert torch.equal(weight, net[0].weight)
    assert any("'state.params'" in note for note in notes)


def test_what_an_optimizer_keeps_is_no_network(tmp_path, plain):
    path = saved({"optimizer": trained(make()), "epoch": 3}, tmp_path / "c.pt")
    with pytest.raises(CheckpointError) as caught:
        read_file(path)
    text = plain(caught.value, path)
    assert "holds no weights by name (it has the entries 'optimizer', 'epoch')" in text


def test_of_many_entries_ten_are_named(tmp_path, plain):
    path = saved({f"setting {n}": n for n in range(40)}, tmp_path / "c.pt")
    with pytest.raises(CheckpointError) as caught:
        read_file(path)
    text = plain(caught.value, path)
    assert "'setting 9' and 30 more" in text
    assert "setting 10" not in text


def test_a_dictionary_that_holds_itself_has_an_end():
    content = {"epoch": 1}
    content["again"] = content
    assert weights_in(content) == {}
