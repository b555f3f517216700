"""What a network of a bundle gets is what the bundle's own pipeline makes, in Python."""

import warnings

import numpy as np
import pytest
import torch

import napari_cnnvis as cv
from napari_cnnvis.errors import VolumeError
from napari_cnnvis.models.formats.monai_bundle import read_bundle
from napari_cnnvis.scan.conform import conform

from ...scan.monai_chains import in_bundle, random_chain, random_scan
from .bundles import INFERENCE, bundle

transforms = pytest.importorskip("monai.transforms")

NET = {"_target_": "resnet10", "spatial_dims": 3, "n_input_channels": 1, "num_classes": 2,
       "widen_factor": 0.125}  # fmt: skip
LOAD = [{"_target_": "LoadImaged", "keys": "image"}, {"_target_": "EnsureChannelFirstd", "keys": "image"}]  # fmt: skip


def bundle_of(folder, steps, network=NET):
    """A bundle with a small network and these steps after loading."""
    from monai.networks.nets import resnet10

    config = {
        "network_def": network,
        "preprocessing": {"_target_": "Compose", "transforms": [*LOAD, *steps]},
    }
    path = bundle(folder, config, metadata=False, weights=False)
    torch.manual_seed(0)
    net = resnet10(**{k: v for k, v in network.items() if k != "_target_"}).eval()
    torch.save(net.state_dict(), path / "models" / "model.pt")
    return path, net


def by_monai(steps, scans):
    """The channels after a bundle's steps, by MONAI's dictionary transforms."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = [
            getattr(transforms, step["_target_"])(
                **{k: v for k, v in step.items() if k != "_target_"}
            )
            for step in steps
        ]
        return transforms.Compose(made)(scans)["image"].numpy()


def test_random_pipelines_are_read_and_done_as_they_are_written(tmp_path):
    compared = 0
    for seed in range(300, 340):
        rng = np.random.default_rng(seed)
        scan = random_scan(rng, tmp_path / "s.nii.gz")
        steps = in_bundle(random_chain(rng))
        config = {"preprocessing": {"_target_": "Compose", "transforms": LOAD + steps}}
        file = read_bundle(bundle(tmp_path / str(seed), {**INFERENCE, **config}, metadata=False))
        assert file.notes == ()
        try:
            ours = conform(cv.read_volume(scan), cv.InputSpec(**file.header["input"])).channels
        except VolumeError:
            continue
        theirs = by_monai(LOAD + steps, {"image": scan})
        np.testing.assert_allclose(ours, theirs, atol=1e-5, rtol=1e-5, err_msg=str(steps))
        compared += 1
    assert compared > 30


PIPELINES = {
    "intensity before crop": [
        {"_target_": "ScaleIntensityd", "keys": "image"},
        {"_target_": "CenterSpatialCropd", "keys": "image", "roi_size": [16, 15, 17]},
        {"_target_": "SpatialPadd", "keys": "image", "spatial_size": [16, 16, 17]},
    ],
    "spacing": [
        {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS"},
        {"_target_": "Spacingd", "keys": "image", "pixdim": [1.7, 1.7, 1.7], "mode": "bilinear"},
        {"_target_": "CropForegroundd", "keys": "image", "source_key": "image"},
        {"_target_": "NormalizeIntensityd", "keys": "image", "nonzero": True},
        {"_target_": "ResizeWithPadOrCropd", "keys": "image", "spatial_size": [25, 24, 23]},
    ],
    "resize": [
        {"_target_": "Resized", "keys": "image", "spatial_size": [21, 24, 20], "mode": "area"},
        {"_target_": "ScaleIntensityRangePercentilesd", "keys": "image", "lower": 2, "upper": 98,
         "b_min": -1, "b_max": 1, "clip": True},
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", PIPELINES)
def test_scores_maps_and_regions_follow_the_pipeline(tmp_path, name):
    scan = random_scan(np.random.default_rng(1), tmp_path / "s.nii.gz")
    path, net = bundle_of(tmp_path / "b", PIPELINES[name])
    model = cv.load_model(path, device="cpu")
    assert model.notes == ()
    volume = cv.read_volume(scan)
    with torch.no_grad():
        x = torch.from_numpy(by_monai(LOAD + PIPELINES[name], {"image": scan}))[None]
        expected = net(x)[0].softmax(0)
    np.testing.assert_allclose(model.predict(volume), expected, atol=1e-5)
    assert model.input_shape == tuple(x.shape[2:])
    hierarchy = cv.build_hierarchy(volume, counts=[12, 5])
    for made in (
        cv.grad_cam(model, volume, 0, relu=False),
        cv.sensitivity(model, volume, hierarchy, 0),
    ):
        assert made.data.shape == volume.shape
        assert np.abs(made.data).max() > 0
        np.testing.assert_array_equal(made.affine, volume.affine)


def test_scans_of_several_keys_are_prepared_one_by_one(tmp_path):
    keys = ["t1", "t2"]
    steps = [
        {"_target_": "LoadImaged", "keys": keys},
        {"_target_": "EnsureChannelFirstd", "keys": keys},
        {"_target_": "CropForegroundd", "keys": keys, "source_key": "t2"},
        {"_target_": "ScaleIntensityd", "keys": keys},
        {"_target_": "NormalizeIntensityd", "keys": keys, "nonzero": True},
        {"_target_": "ConcatItemsd", "keys": keys, "name": "image"},
        {"_target_": "ScaleIntensityd", "keys": "image"},
    ]
    scans = {
        key: random_scan(np.random.default_rng(5), tmp_path / f"{key}.nii.gz", factor)
        for key, factor in zip(keys, (1, 1.3), strict=True)
    }
    config = {"network_def": NET, "preprocessing": {"_target_": "Compose", "transforms": steps}}
    metadata = {"network_data_format": {"inputs": {"image": {"num_channels": 2}}}}
    file = read_bundle(bundle(tmp_path, config, metadata))
    volumes = [cv.read_volume(path) for path in scans.values()]
    ours = conform(volumes, cv.InputSpec(**file.header["input"]))
    assert file.notes == ()
    np.testing.assert_allclose(ours.channels, by_monai(steps, scans), atol=1e-5)
