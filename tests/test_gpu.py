"""The GPU gives what the CPU gives; runs where there is one."""

import numpy as np
import pytest
import torch

import napari_cnnvis as cv
from napari_cnnvis.models.networks import VoxResNetGAP

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("gpu") / "gap.safetensors"
    cv.save_model(VoxResNetGAP(), path, ["control", "atrophy"], cv.InputSpec())
    return [cv.load_model(path, device=device) for device in ("cpu", "cuda")]


@pytest.fixture(scope="module")
def volume():
    head = np.zeros((32, 36, 40), np.float32)
    head[6:26, 6:30, 6:34] = np.random.default_rng(0).uniform(0.4, 1, (20, 24, 28))
    return cv.Volume(head)


def assert_equal_maps(on_cpu, on_gpu):
    scale = np.abs(on_cpu.data).max()
    np.testing.assert_allclose(on_gpu.data, on_cpu.data, atol=1e-4 * scale)


def test_auto_takes_the_gpu(models):
    assert cv.Model(VoxResNetGAP()).device.type == "cuda"


def test_probabilities(models, volume):
    cpu, gpu = (model.predict(volume) for model in models)
    np.testing.assert_allclose(gpu, cpu, atol=1e-5)


def test_cam(models, volume):
    assert_equal_maps(*(cv.cam(model, volume, 1) for model in models))


def test_grad_cam_of_all_layers(models, volume):
    cpu, gpu = (cv.grad_cam(model, volume, 1, layer="all", relu=False) for model in models)
    for name in cpu:
        assert_equal_maps(cpu[name], gpu[name])


def test_sensitivity(models, volume):
    hierarchy = cv.build_hierarchy(volume)
    maps = [cv.sensitivity(m, volume, hierarchy, 1, levels=[20, 8], score="logit") for m in models]
    assert_equal_maps(*maps)


@pytest.mark.parametrize("baseline", ["blur", "border", [0, "noise"]])
def test_incremental_and_full_passes_on_the_gpu(models, volume, baseline):
    hierarchy = cv.build_hierarchy(volume)
    full, incremental = (
        cv.sensitivity(
            models[1], volume, hierarchy, 1, baseline, score="logit", levels=[20, 8], engine=engine
        )
        for engine in ("full", "incremental")
    )
    assert incremental.provenance["engine"]["largest_difference"] < 1e-5
    assert_equal_maps(full, incremental)


def test_half_precision_is_near_and_says_how_near(models, volume):
    hierarchy = cv.build_hierarchy(volume)
    half = cv.sensitivity(models[1], volume, hierarchy, 1, levels=[20, 8], precision="half")
    assert 0 < half.provenance["engine"]["largest_difference"] < 0.1
    assert "float16" in half.notes[-1]


def test_boxes(models, volume):
    maps = [cv.box_sensitivity(m, volume, 1, 5, 4, score="logit") for m in models]
    assert_equal_maps(*maps)
