"""Networks in float64, float16 and bfloat16, as a whole, in parts, and as programs."""

import copy
import warnings

import numpy as np
import pytest
import torch
from torch import nn

import napari_cnnvis as cv
from napari_cnnvis.errors import ComputeError

TYPES = {"float64": torch.float64, "float16": torch.float16, "bfloat16": torch.bfloat16}
#: how far a network in each type may be from the same one in float32
CLOSE = {"float64": 2e-5, "float16": 5e-3, "bfloat16": 3e-2}


def network():
    torch.manual_seed(0)
    net = nn.Sequential(
        *(nn.Conv3d(1, 6, 3, padding=1), nn.BatchNorm3d(6), nn.ReLU(), nn.MaxPool3d(2)),
        *(nn.Conv3d(6, 6, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten()),
        nn.Linear(6, 2),
    )
    with torch.no_grad():
        net[0].weight.mul_(3)
        net[4].weight.mul_(3)
        net[8].weight.mul_(3)
    return net.eval()


class Casting(nn.Module):
    """Its own code casts what it is given."""

    def __init__(self, dtype):
        super().__init__()
        self.net, self.dtype = network().to(dtype), dtype

    def forward(self, x):
        return self.net(x.to(self.dtype)).float()


class Mixed(nn.Module):
    """The first half in another type than the second."""

    def __init__(self, dtype):
        super().__init__()
        net = network()
        self.first, self.second = net[:4].to(dtype), net[4:]

    def forward(self, x):
        return self.second(self.first(x).float())


def scripted(dtype):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.trace(network().to(dtype), torch.zeros(1, 1, 16, 16, 16, dtype=dtype))


FORMS = {
    "whole": lambda dtype: network().to(dtype),
    "casting": Casting,
    "mixed": Mixed,
    "TorchScript": scripted,
}


def scan():
    return cv.Volume(
        np.random.default_rng(0).random((16, 16, 16)).astype(np.float32), np.eye(4), "s"
    )


def maps(model):
    volume = scan()
    found = {
        "prediction": model.predict(volume),
        "sensitivity": cv.sensitivity(
            model, volume, target=0, hierarchy=cv.build_hierarchy(volume), smooth=0
        ).data,
    }
    if model.recommended_layer:
        layer = "".join(model.target_layers[-1:])
        found["Grad-CAM"] = cv.grad_cam(model, volume, target=0, layer=layer).data
    return found


@pytest.fixture(scope="module")
def in_float32():
    return maps(cv.Model(network(), device="cpu"))


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("form", FORMS)
def test_maps_are_those_of_float32(in_float32, form, kind):
    found = maps(cv.Model(FORMS[form](TYPES[kind]), device="cpu"))
    for name, values in found.items():
        expected = in_float32[name]
        assert values.dtype == np.float32
        limit = CLOSE[kind] * np.abs(expected).max() * (10 if name == "sensitivity" else 1)
        np.testing.assert_allclose(values, expected, atol=limit, rtol=0, equal_nan=True)


def test_a_network_in_half_precision_is_left_as_it_is_and_computed_in_float32():
    net = network().half()
    model = cv.Model(net, device="cpu")
    assert {p.dtype for p in net.parameters()} == {torch.float16}
    assert {p.dtype for p in model.module.parameters()} == {torch.float32}
    assert any("float16" in note for note in model.notes)


def test_small_gradients_of_half_precision_do_not_vanish():
    net = network()
    with torch.no_grad():
        net[8].weight.mul_(1e-5)
    expected = cv.grad_cam(cv.Model(copy.deepcopy(net), device="cpu"), scan(), target=0, layer="4")
    found = cv.grad_cam(cv.Model(net.half(), device="cpu"), scan(), target=0, layer="4")
    assert expected.data.max() > 0
    np.testing.assert_allclose(found.data, expected.data, atol=0.05 * expected.data.max())


@pytest.mark.parametrize("form", [Casting, Mixed, FORMS["whole"]])
def test_the_engine_follows_networks_in_float64(form):
    volume = scan()
    model = cv.Model(form(torch.float64), device="cpu")
    record = cv.sensitivity(model, volume, target=0, hierarchy=cv.build_hierarchy(volume)).record
    assert record.values["engine"]["engine"] == "incremental"


def lazy():
    return nn.Sequential(
        *(nn.LazyConv3d(4, 3), nn.LazyBatchNorm3d(), nn.ReLU(), nn.AdaptiveAvgPool3d(1)),
        *(nn.Flatten(), nn.LazyLinear(2)),
    )


def test_weights_go_into_a_lazy_network(tmp_path):
    net = lazy()
    net(torch.rand(2, 1, 8, 8, 8))
    torch.save(net.eval().state_dict(), tmp_path / "net.pt")
    model = cv.load_model(tmp_path / "net.pt", arch=lazy(), device="cpu")
    expected = cv.Model(net, device="cpu").predict(scan())
    np.testing.assert_allclose(model.predict(scan()), expected, atol=1e-6)


def test_a_lazy_network_that_never_ran_is_a_plain_sentence(plain):
    with pytest.raises(ComputeError) as caught:
        cv.Model(lazy(), device="cpu")
    text = plain(caught.value)
    assert "'0' (LazyConv3d) has no weights yet" in text


def test_a_half_empty_lazy_network_names_what_is_missing(tmp_path, plain):
    net = lazy()
    net(torch.rand(2, 1, 8, 8, 8))
    state = {k: v for k, v in net.state_dict().items() if not k.startswith("5.")}
    torch.save(state, tmp_path / "net.pt")
    with pytest.raises(cv.CnnVisError) as caught:
        cv.load_model(tmp_path / "net.pt", arch=lazy(), device="cpu")
    assert "2 of 8 weights are missing" in plain(caught.value, tmp_path / "net.pt")
