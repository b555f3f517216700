"""How scans are prepared is kept wherever a network's input is kept."""

import json

import numpy as np
import pytest
import torch
from torch import nn

import napari_cnnvis as cv
from napari_cnnvis.models.cache import CheckpointCache
from napari_cnnvis.models.settings import Recipe, remember, remembered

SPECS = [
    cv.InputSpec(intensity="mean, clip 0 8"),
    cv.InputSpec((12, 12, 12), intensity="window 0 0.5, z-score-nonzero"),
    cv.InputSpec(steps="Orientation('LPS'), Spacing((2, 2, 2.5)), ScaleIntensity(minv=-1)"),
    cv.InputSpec(steps="CropForeground(margin=1), Resize((12, 10, 8), mode='trilinear')"),
    cv.InputSpec(steps="NormalizeIntensity(nonzero=True)", intensity="clip -1 1", window=(8, 8, 8)),
]
ARCH = "monai.networks.nets:resnet10(spatial_dims=3, n_input_channels=1, num_classes=2, widen_factor=0.125)"


def small():
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv3d(1, 4, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool3d(1)),
        *(nn.Flatten(), nn.Linear(4, 2)),
    )


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_it_is_remembered_for_the_files_content(spec):
    remember("0" * 32, Recipe(input_spec=spec))
    assert remembered("0" * 32).input_spec == spec


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_a_record_holds_it_and_a_model_with_it_says_the_same(spec):
    volume = cv.Volume(np.random.default_rng(0).random((12, 13, 14)) + 0.1, np.diag([2, 2, 2, 1]))
    model = cv.Model(small(), input_spec=spec, device="cpu")
    made = cv.grad_cam(model, volume, 0, relu=False)
    stored = json.loads(json.dumps(made.provenance))["model"]["input"]
    again = cv.Model(small(), input_spec=cv.InputSpec(**stored), device="cpu")
    assert again.input_spec == spec
    np.testing.assert_array_equal(again.predict(volume), model.predict(volume))


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_a_saved_checkpoint_holds_it(tmp_path, spec):
    from monai.networks.nets import resnet10

    torch.manual_seed(0)
    net = resnet10(spatial_dims=3, n_input_channels=1, num_classes=2, widen_factor=0.125)
    torch.save(net.state_dict(), tmp_path / "net.pt")
    cache = CheckpointCache()
    first = cache.load(tmp_path / "net.pt", Recipe(ARCH, input_spec=spec), device="cpu")
    assert first.is_as(Recipe(ARCH, input_spec=spec))
    other = first.with_recipe(Recipe(class_names=("NC", "AD"), input_spec=SPECS[0]))
    assert other.model.input_spec == SPECS[0]
    assert other.model.class_names == ("NC", "AD")
    assert other.model.module is first.model.module
    assert other.is_as(first.recipe) == (spec == SPECS[0])
    cv.save_model(first.model, tmp_path / "net.safetensors")
    assert cv.load_model(tmp_path / "net.safetensors", device="cpu").input_spec == spec
