"""Names of weights: wrappers in them, prefixes before them, tied and converted ones."""

import warnings

import pytest
import torch
from torch import nn
from torch.nn.utils import spectral_norm as old_spectral_norm
from torch.nn.utils import weight_norm as old_weight_norm
from torch.nn.utils.parametrizations import weight_norm

from napari_cnnvis.errors import CheckpointError
from napari_cnnvis.models.weight_names import bodies, named, without_common_prefix
from napari_cnnvis.models.weights import load_weights, match_weights


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv3d(1, 4, 3), nn.BatchNorm3d(4), nn.ReLU())
        self.out = nn.Linear(4, 2)


class Around(nn.Module):
    """A wrapper that keeps its module under some name."""

    def __init__(self, module, name):
        super().__init__()
        self.add_module(name, module)


def put(module, state):
    return load_weights(module, match_weights(module, state), "Net", "net.pt")


def values(module):
    """All weights in the order of the modules, whatever they are called."""
    return [tensor.clone() for tensor in module.state_dict().values()]


def same(one, other):
    return len(one) == len(other) and all(
        torch.equal(a, b) for a, b in zip(one, other, strict=True)
    )


WRAPPERS = [
    *("_orig_mod", "module", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"),
    "_forward_module",
]
PLACES = ["whole", "encoder", "first convolution", "two", "twice"]


def wrapped(net, name, place):
    if place in ("encoder", "two", "twice"):
        net.encoder = Around(net.encoder, name)
    if place == "first convolution":
        net.encoder[0] = Around(net.encoder[0], name)
    if place == "two":
        net.out = Around(net.out, name)
    return Around(net, name) if place in ("whole", "twice") else net


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", WRAPPERS)
@pytest.mark.parametrize("side", ["file", "network", "trained further"])
def test_wrappers_are_undone_wherever_they_are(name, place, side):
    source, target = Net(), Net()
    expected = values(source)
    if side == "file":
        source = wrapped(source, name, place)
    elif side == "network":
        target = wrapped(target, name, place)
    else:
        source, target = wrapped(source, name, place), wrapped(target, "_orig_mod", "encoder")
    put(target, source.state_dict())
    assert same(values(target), expected)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, while it is imported
def test_a_compiled_part_is_loaded_into_a_compiled_network():
    source, target = Net(), Net()
    source.encoder = torch.compile(source.encoder)
    put(torch.compile(target), source.state_dict())
    assert same(values(target), values(source))


def test_what_was_removed_is_said():
    source = wrapped(Net(), "_orig_mod", "encoder")
    assert put(Net(), source.state_dict()) == ("'_orig_mod' removed from inside the names",)


def test_a_module_that_is_called_module_keeps_its_name():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.module, self.weight = nn.Linear(2, 3), nn.Parameter(torch.rand(3, 2))

    source, target = Two(), Two()
    assert put(target, source.state_dict()) == ()
    assert same(values(target), values(source))


def test_names_that_would_become_one_are_left_alone():
    state = {"_orig_mod.a": torch.ones(1), "a": torch.zeros(1)}
    assert without_common_prefix(state) == (state, ())


def test_averaged_weights_lose_their_counter():
    state = {"n_averaged": torch.tensor(3), "module.a": torch.ones(1)}
    plain, notes = without_common_prefix(state)
    assert list(plain) == ["a"]
    assert notes == ("prefix 'module.' removed from the names",)


def test_bodies_lie_behind_the_prefixes_that_most_names_have():
    names = ["model.net.a", "model.net.b", "model.loss.c", "step"]
    found = [list(body) for body in bodies(dict.fromkeys(names, torch.ones(1)))]
    assert found == [names, ["net.a", "net.b", "loss.c"], ["a", "b"]]


def test_names_in_few_words():
    assert named(("a.b",)) == "a.b"
    assert named(("a.b.c", "a.b.d")) == "all start with 'a.b.'"
    assert named(("a", "b", "c")) == "a, b, c"
    assert named(("a", "b", "c", "d")) == "a, b, c and 1 more"


# --- tied -----------------------------------------------------------------------------------


class SameModule(nn.Module):
    def __init__(self):
        super().__init__()
        self.left = nn.Conv3d(4, 4, 3)
        self.right = self.left


class SameWeight(nn.Module):
    def __init__(self):
        super().__init__()
        self.left, self.right = nn.Conv3d(4, 4, 3), nn.Conv3d(4, 4, 3)
        self.right.weight = self.left.weight
        self.right.bias = self.left.bias


class SameMemory(nn.Module):
    def __init__(self):
        super().__init__()
        self.left, self.right = nn.Conv3d(4, 4, 3), nn.Conv3d(4, 4, 3)
        self.right.weight = nn.Parameter(self.left.weight.data)
        self.right.bias = nn.Parameter(self.left.bias.data)


@pytest.mark.parametrize("kind", [SameModule, SameWeight, SameMemory])
@pytest.mark.parametrize("kept", ["left", "right"])
def test_tied_weights_may_be_there_under_one_name(kind, kept):
    source, target = kind(), kind()
    put(target, {k: v for k, v in source.state_dict().items() if k.startswith(kept)})
    assert same(values(target), values(source))


@pytest.mark.parametrize("kind", [SameModule, SameWeight, SameMemory])
def test_tied_weights_that_differ_in_the_file_are_refused(kind, plain):
    state = {k: v.clone() for k, v in kind().state_dict().items()}
    state["right.bias"] += 1
    with pytest.raises(CheckpointError) as caught:
        put(kind(), state)
    assert "left.bias and right.bias are one and the same in the network" in plain(caught.value)


# --- converted by the network itself -----------------------------------------------------------


class Renaming(nn.Module):
    """Knows the names of an older version of itself."""

    def __init__(self):
        super().__init__()
        self.new = nn.Conv3d(1, 4, 3)

    def _load_from_state_dict(self, state, prefix, *rest):
        for part in ("weight", "bias"):
            if f"{prefix}old.{part}" in state:
                state[f"{prefix}new.{part}"] = state.pop(f"{prefix}old.{part}")
        super()._load_from_state_dict(state, prefix, *rest)


def old_norm():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return nn.Sequential(old_weight_norm(nn.Conv3d(1, 4, 3)), nn.Flatten())


def fused(module):
    """Three projections that were one weight in a file."""

    def hook(own, state, prefix, *_):
        if f"{prefix}qkv" in state:
            for name, part in zip("qkv", state.pop(f"{prefix}qkv").chunk(3), strict=True):
                state[f"{prefix}{name}"] = part

    module.register_load_state_dict_pre_hook(hook)
    return module


def projections():
    net = nn.Module()
    for name in "qkv":
        net.register_parameter(name, nn.Parameter(torch.rand(2, 2)))
    return fused(net)


CONVERTED = {
    "weight_norm": (
        lambda: old_norm().state_dict(),
        lambda: nn.Sequential(weight_norm(nn.Conv3d(1, 4, 3)), nn.Flatten()),
    ),
    "an older version": (
        lambda: {"old.weight": torch.rand(4, 1, 3, 3, 3), "old.bias": torch.rand(4)},
        Renaming,
    ),
    "a fused weight": (lambda: {"qkv": torch.rand(6, 2)}, projections),
}


@pytest.mark.parametrize("case", CONVERTED)
def test_names_that_the_network_converts_itself_are_taken(case):
    make_state, make = CONVERTED[case]
    state, net, by_torch = make_state(), make(), make()
    by_torch.load_state_dict(dict(state))
    assert put(net, state) == ("names converted by the network's own code",)
    assert same(values(net), values(by_torch))


class Careless(nn.Module):
    """Leaves out what it does not find."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(2, 2), nn.Linear(2, 2)

    def _load_from_state_dict(self, state, prefix, metadata, strict, missing, *rest):
        super()._load_from_state_dict(state, prefix, metadata, strict, missing, *rest)

    def load_state_dict(self, state, strict=True, assign=False):
        return super().load_state_dict(state, strict=False, assign=assign)


class Hiding(Careless):
    """Its children do not say what they miss."""

    def __init__(self):
        super().__init__()
        self.a.register_load_state_dict_post_hook(lambda module, keys: keys.missing_keys.clear())
        self.b.register_load_state_dict_post_hook(lambda module, keys: keys.missing_keys.clear())


@pytest.mark.parametrize("kind", [Careless, Hiding])
def test_code_that_leaves_weights_as_they_were_is_found_out(kind):
    net = kind()
    state = {k: v for k, v in net.state_dict().items() if k.startswith("a.")}
    with pytest.raises(CheckpointError, match=r"2 of 4 weights are missing"):
        put(net, state)


def test_spectral_norm_of_both_kinds_loads_into_itself():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        source, target = (old_spectral_norm(nn.Conv3d(1, 4, 3)) for _ in range(2))
    put(target, source.state_dict())
    assert same(values(target), values(source))
