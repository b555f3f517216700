"""The GPU gives what the CPU gives; runs where there is one."""

import copy
import gc

import numpy as np
import pytest
import torch
from torch import nn

import napari_cnnvis as cv
from napari_cnnvis.explain.run import explain
from napari_cnnvis.models.networks.vox import VoxResNetGAP

GRADIENT = ("grad-cam", "grad-cam++", "hirescam", "layercam")

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")


def lively(**arguments):
    """A network whose scores depend on the scan, with random weights and statistics."""
    torch.manual_seed(0)
    net = VoxResNetGAP(**arguments)
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.Conv3d | nn.Linear):
                module.weight.normal_(0, (2 / module.weight[0].numel()) ** 0.5)
            elif isinstance(module, nn.BatchNorm3d):
                module.running_mean.normal_(0, 0.3)
                module.running_var.uniform_(0.5, 2)
    return net


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    path = tmp_path_factory.mktemp("gpu") / "gap.safetensors"
    cv.save_model(lively(), path, ["control", "atrophy"], cv.InputSpec())
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


@pytest.mark.parametrize("method", GRADIENT)
def test_gradient_methods_of_all_layers(models, volume, method):
    cpu, gpu = (explain(m, volume, method, target=1, layer="all", relu=False) for m in models)
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
            models[1],
            volume,
            hierarchy,
            1,
            baseline=baseline,
            score="logit",
            levels=[20, 8],
            engine=engine,
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
    maps = [cv.box_sensitivity(m, volume, 1, size=5, stride=4, score="logit") for m in models]
    assert_equal_maps(*maps)


@pytest.fixture(scope="module")
def windowed(models):
    spec = cv.InputSpec(window=(24, 20, 24), overlap=0.5)
    return [model.with_input(spec) for model in models]


def test_windows(windowed, volume):
    cpu, gpu = (model.predict(volume) for model in windowed)
    np.testing.assert_allclose(gpu, cpu, atol=1e-5)
    assert_equal_maps(*(cv.cam(model, volume, 1) for model in windowed))
    assert_equal_maps(*(explain(m, volume, "layercam", target=1, layer="conv1c") for m in windowed))


def test_sensitivity_with_windows(windowed, volume):
    hierarchy = cv.build_hierarchy(volume)
    how = {"levels": [12], "score": "logit"}
    maps = [cv.sensitivity(model, volume, hierarchy, 1, **how) for model in windowed]
    assert_equal_maps(*maps)
    assert maps[1].provenance["engine"]["engine"] == "windows"


@pytest.fixture(scope="module")
def two_channels():
    net, spec = lively(in_channels=2), cv.InputSpec(channels=2)
    return [cv.Model(copy.deepcopy(net), None, spec, device) for device in ("cpu", "cuda")]


@pytest.mark.parametrize("baseline", ["blur", "border", [0, "noise"]])
def test_two_channels(two_channels, volume, baseline):
    scan = volume, cv.Volume(volume.data[::-1].copy())
    hierarchy = cv.build_hierarchy(volume)
    maps = [
        cv.sensitivity(model, scan, hierarchy, 1, baseline=baseline, score="logit", levels=[12, 8])
        for model in two_channels
    ]
    assert maps[1].provenance["engine"]["engine"] == "incremental"
    assert_equal_maps(*maps)
    assert_equal_maps(
        *(explain(m, scan, "hirescam", target=1, layer="conv1c") for m in two_channels)
    )


@pytest.mark.parametrize("output", ["sigmoid", "regression"])
def test_one_output(volume, output):
    net = lively(n_classes=1)
    models = [
        cv.Model(copy.deepcopy(net), ["X"], device=device, output=output)
        for device in ("cpu", "cuda")
    ]
    cpu, gpu = (model.predict(volume) for model in models)
    np.testing.assert_allclose(gpu, cpu, atol=1e-5)
    for target in (0, 1):
        assert_equal_maps(*(cv.cam(model, volume, target) for model in models))
        assert_equal_maps(
            *(cv.box_sensitivity(m, volume, target, size=5, stride=6) for m in models)
        )


def test_a_model_that_is_dropped_gives_its_memory_back(volume):
    def allocated():
        gc.collect()
        return torch.cuda.memory_allocated()

    def run():
        model = cv.Model(VoxResNetGAP(), device="cuda")
        hierarchy = cv.build_hierarchy(volume)
        return [
            explain(model, volume, "layercam", target=1, layer="all"),
            cv.sensitivity(model, volume, hierarchy, 1, levels=[12]),
        ]

    run()
    before = allocated()
    kept = run()
    assert allocated() == before
    assert len(kept) == 2


def test_training_in_mixed_precision(tmp_path):
    from napari_cnnvis.cli import main

    rows = ["Path,Label"]
    for number in range(16):
        data = np.random.default_rng(number).random((16,) * 3).astype(np.float32)
        data[:8] += number % 2
        cv.write_volume(cv.Volume(data), tmp_path / f"{number}.nii.gz")
        rows.append(f"{number}.nii.gz,{'ab'[number % 2]}")
    (tmp_path / "table.csv").write_text("\n".join(rows))
    arguments = [
        "train",
        str(tmp_path / "table.csv"),
        "--net",
        "voxresnetgap",
        "--recipe",
        "modern",
    ]
    arguments += [
        "--folds",
        "2",
        "--repeats",
        "1",
        "--epochs",
        "3",
        "--mixed",
        "--accelerator",
        "gpu",
    ]
    assert main([*arguments, "-o", str(tmp_path / "runs")]) == 0
    model = cv.load_model(tmp_path / "runs" / "repeat-1-fold-1" / "network.safetensors")
    assert model.training["held_out_auc"] > 0.9
