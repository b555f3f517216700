"""Which of MONAI's networks weights seem to belong to, so that it can be suggested."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from napari_cnnvis.errors import CheckpointError
from napari_cnnvis.models.networks.factories import Factory
from napari_cnnvis.models.weight_names import bodies, is_counter

__all__ = ["looks_like"]

_PLACE = "monai.networks.nets"


def looks_like(state: Mapping[str, Tensor]) -> str:
    """The architecture, as text for ``arch=``, with all of a state dict's names and shapes; or "".

    Nothing of a file is run: MONAI's own networks are built without weights and
    compared. The weights may lie behind a prefix, beside others.
    """
    if importlib.util.find_spec("monai") is None:
        return ""
    return next((found for body in bodies(state) if (found := _looks_like(body))), "")


def _looks_like(state: Mapping[str, Tensor]) -> str:
    n_out = next((t.shape[0] for t in reversed(list(state.values())) if t.ndim >= 1), 0)
    n_in = next((t.shape[1] for t in state.values() if t.ndim == 5), 1)
    shapes = {k: tuple(v.shape) for k, v in state.items() if not is_counter(k)}
    for factory in _candidates(n_in, n_out, set(state)):
        try:
            with torch.device("meta"):
                needed = factory.build().state_dict()
        except CheckpointError:
            continue
        if shapes == {k: tuple(v.shape) for k, v in needed.items() if not is_counter(k)}:
            return str(factory)
    return ""


def _candidates(n_in: int, n_out: int, names: set[str]) -> Iterator[Factory]:
    usual = {"spatial_dims": 3, "in_channels": n_in, "out_channels": n_out}
    renamed = {"spatial_dims": 3, "in_channels": n_in, "num_classes": n_out}
    resnet = {"spatial_dims": 3, "n_input_channels": n_in, "num_classes": n_out}
    if any("denseblock1" in name for name in names):
        for depth in (121, 169, 201, 264):
            yield Factory(_PLACE, f"DenseNet{depth}", (), usual)
    if "conv1.weight" in names and any(name.startswith("layer4.") for name in names):
        for depth in (10, 18, 34, 50, 101, 152, 200):
            for shortcut in ("B", "A"):
                for bias in ({}, {"bias_downsample": False}):
                    keywords = {**resnet, "shortcut_type": shortcut, **bias}
                    yield Factory(_PLACE, f"resnet{depth}", (), _without_defaults(keywords))
    if any(name.startswith("layer0.") for name in names):
        for name in (
            "SEResNet50",
            "SEResNet101",
            "SEResNet152",
            "SEResNext50",
            "SEResNext101",
            "SENet154",
        ):
            yield Factory(_PLACE, name, (), renamed)
    if "_conv_stem.weight" in names:
        for size in range(9):
            keywords = {"model_name": f"efficientnet-b{size}", **renamed, "pretrained": False}
            yield Factory(_PLACE, "EfficientNetBN", (), keywords)


def _without_defaults(keywords: dict) -> dict:
    return {k: v for k, v in keywords.items() if (k, v) != ("shortcut_type", "B")}
