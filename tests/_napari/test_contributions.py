"""Sample data through napari's contributions."""

import numpy as np
import pytest
from napari.layers import Image
from npe2 import PluginManifest
from npe2.manifest.utils import import_python_name

from napari_cnnvis._napari.contributions import get_reader
from napari_cnnvis.sample_data import sample_networks, sample_path
from napari_cnnvis.scan.opening import SCAN_ENDINGS


@pytest.fixture(scope="module")
def samples():
    """The layers of each sample that the manifest offers, by key."""
    contributions = PluginManifest.from_distribution("napari-cnnvis").contributions
    functions = {command.id: command.python_name for command in contributions.commands}
    return {
        sample.key: import_python_name(functions[sample.command])()
        for sample in contributions.sample_data
    }


@pytest.mark.parametrize("key", ["mni152", "control", "atrophy", "severe_atrophy"])
def test_samples_of_the_manifest_open(samples, key):
    ((data, attributes, kind),) = samples[key]
    layer = Image(data, **attributes)
    assert kind == "image"
    assert layer.data.shape == (110, 110, 110)
    np.testing.assert_allclose(np.abs(layer.scale), 2)
    assert tuple(layer.axis_labels) == ("S", "A", "R")


def test_samples_share_one_space(samples):
    first, second = (Image(d, **a) for key in ("mni152", "atrophy") for d, a, _ in samples[key])
    np.testing.assert_array_equal(first.data_to_world((1, 2, 3)), second.data_to_world((1, 2, 3)))


def test_ground_truth_lies_inside_its_scan():
    from napari_cnnvis import read_volume

    for name in ("simulated_atrophy", "simulated_atrophy_severe"):
        scan = read_volume(sample_path(f"{name}.nii.gz"))
        truth = read_volume(sample_path(f"{name}_changed.nii.gz"))
        assert 5_000 < (truth.data > 0).sum() < 40_000
        assert (scan.data[truth.data > 0] > 0).all()


def test_sample_networks_know_their_classes_and_tell_the_samples_apart():
    from napari_cnnvis import load_model, read_volume

    networks = {path.stem.split("_")[0]: path for path in sample_networks()}
    assert {"voxvgg", "voxresnetgap"} <= set(networks)
    model = load_model(networks["voxvgg"])
    assert model.class_names == ("control", "atrophy")
    assert model.training["held_out_accuracy"] >= 0.9
    for name, expected in (("control", 0), ("atrophy", 1), ("atrophy_severe", 1)):
        scan = read_volume(sample_path(f"simulated_{name}.nii.gz"))
        assert model.predict(scan).argmax() == expected


def test_shipped_files_stay_small():
    folder = sample_path("mni152_t1_2mm.nii.gz").parent
    assert sum(f.stat().st_size for f in folder.iterdir() if f.is_file()) < 25e6


def test_the_manifest_offers_what_the_reader_takes():
    (reader,) = PluginManifest.from_distribution("napari-cnnvis").contributions.readers
    patterns = reader.filename_patterns
    assert {f"*{ending}" for ending in (*SCAN_ENDINGS, ".hdr", ".hdr.gz")} == set(patterns)
    for pattern in patterns:
        name = pattern.replace("*", "a")
        assert get_reader(name) is not None and get_reader([name, name.upper()]) is not None
    assert get_reader("a.png") is None
