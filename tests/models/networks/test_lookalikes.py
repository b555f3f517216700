"""Weights of MONAI's networks that do not say what they are: the right architecture is suggested."""

import re

import pytest
import torch

from napari_cnnvis.errors import CheckpointError
from napari_cnnvis.models.checkpoint import load_model
from napari_cnnvis.models.networks import lookalikes
from napari_cnnvis.models.networks.factories import parse_architecture
from napari_cnnvis.models.networks.lookalikes import looks_like

monai = pytest.importorskip("monai.networks.nets")

PLACE = "monai.networks.nets:"
SAME = [
    "DenseNet121(spatial_dims=3, in_channels=1, out_channels=2)",
    "DenseNet121(spatial_dims=3, in_channels=2, out_channels=5)",
    "resnet10(spatial_dims=3, n_input_channels=1, num_classes=3)",
    "resnet18(spatial_dims=3, n_input_channels=1, num_classes=2, shortcut_type='A', bias_downsample=False)",
    "resnet18(spatial_dims=3, n_input_channels=1, num_classes=2, bias_downsample=False)",
    "resnet34(spatial_dims=3, n_input_channels=2, num_classes=2)",
    "SEResNet50(spatial_dims=3, in_channels=1, num_classes=2)",
    "EfficientNetBN(model_name='efficientnet-b0', spatial_dims=3, in_channels=1, num_classes=2, pretrained=False)",
]  # fmt: skip


def empty_state(text):
    """Names and shapes of a network, without values."""
    with torch.device("meta"):
        return parse_architecture(PLACE + text).build().state_dict()


@pytest.mark.parametrize("text", SAME)
def test_the_suggested_network_has_the_same_weights(text):
    state = empty_state(text)
    found = looks_like(state)
    shapes = {k: tuple(v.shape) for k, v in state.items()}
    assert found.startswith(PLACE + text.partition("(")[0])
    assert {k: tuple(v.shape) for k, v in empty_state(found.removeprefix(PLACE)).items()} == shapes


def test_defaults_are_not_spelled_out():
    text = "resnet18(spatial_dims=3, n_input_channels=1, num_classes=2)"
    assert looks_like(empty_state(text)) == PLACE + text


@pytest.mark.parametrize(
    "state",
    [
        {},
        {"w": torch.ones(2)},
        {"layer0.x": torch.ones(2)},
    ],
)
def test_others_are_like_none(state):
    assert looks_like(state) == ""


def test_a_changed_shape_is_like_none():
    state = empty_state("resnet10(spatial_dims=3, n_input_channels=1, num_classes=3)")
    state["bn1.weight"] = torch.ones(65, device="meta")
    assert looks_like(state) == ""


def test_without_monai_nothing_is_suggested(monkeypatch):
    state = empty_state("resnet10(spatial_dims=3, n_input_channels=1, num_classes=3)")
    monkeypatch.setattr(lookalikes.importlib.util, "find_spec", lambda _: None)
    assert looks_like(state) == ""


@pytest.mark.parametrize(
    "text", [SAME[0], "resnet18(spatial_dims=3, n_input_channels=1, num_classes=2)"]
)
def test_the_error_names_what_then_loads(tmp_path, plain, text):
    shapes = {k: (v.shape, v.dtype) for k, v in empty_state(text).items()}
    state = {k: torch.full((), 0.01).to(t).expand(shape) for k, (shape, t) in shapes.items()}
    path = tmp_path / "net.pt"
    torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}}, path)
    with pytest.raises(CheckpointError) as caught:
        load_model(path, "cpu")
    said = plain(caught.value, path)
    (suggested,) = re.findall(r"weights of (monai.*\)), it seems", said)
    assert suggested == PLACE + text
    assert "arch='...'" in said
    model = load_model(path, "cpu", arch=suggested)
    assert model.arch == suggested
    assert all(torch.equal(v, state[k]) for k, v in model.module.state_dict().items())
