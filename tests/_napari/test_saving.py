"""What the panels write and read: nothing is lost, nothing blocks, nothing is silently wrong."""

import os

import nibabel as nib
import numpy as np
import pytest
import torch
from napari.layers import Image
from qtpy.QtWidgets import QFileDialog, QWidget

import napari_cnnvis as cv
from napari_cnnvis._napari.contributions import read_scans, write_scan
from napari_cnnvis._napari.explain.panel import ExplainPanel
from napari_cnnvis._napari.layers.scans import layer_to_volume, snapshot, volume_to_layer
from napari_cnnvis._napari.supervoxels.hierarchy_files import read_hierarchy, write_hierarchy
from napari_cnnvis._napari.widgets.file_dialogs import FileDialogs
from napari_cnnvis.errors import VolumeError
from napari_cnnvis.models.networks.vox import VoxResNetGAP

AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])


@pytest.fixture
def scan_path(tmp_path):
    data = np.random.default_rng(0).random((16, 17, 18), dtype=np.float32)
    return cv.write_volume(cv.Volume(data, AFFINE), tmp_path / "scan.nii.gz")


@pytest.fixture
def panel(opened):
    return opened(ExplainPanel)


def test_a_scan_is_not_saved_over_its_file(tmp_path, scan_path):
    (layer,) = read_scans(str(scan_path))
    before = scan_path.read_bytes()
    with pytest.raises(VolumeError, match="input"):
        write_scan(str(scan_path), layer[0] * 2, layer[1])
    assert scan_path.read_bytes() == before
    other = tmp_path / "other.nii.gz"
    assert write_scan(str(other), *layer[:2]) == write_scan(str(other), *layer[:2]) == [str(other)]


def test_supervoxels_are_not_saved_over_their_scan(tmp_path, scan_path):
    (data, attributes, _) = read_scans(str(scan_path))[0]
    volume = layer_to_volume(data, attributes)
    tree = cv.build_hierarchy(volume, counts=[4, 2])
    before = scan_path.read_bytes()
    with pytest.raises(VolumeError, match="input"):
        write_hierarchy(tree, str(scan_path), attributes)
    assert scan_path.read_bytes() == before
    for name in ("levels.nii.gz", "tree.npz"):
        for _ in range(2):
            write_hierarchy(tree, str(tmp_path / name), attributes)


@pytest.mark.parametrize(
    ("given", "kind", "whole", "expected"),
    [
        ("", "Table (*.csv)", True, ""),
        ("/a/new", "Table (*.csv)", True, "/a/new.csv"),
        ("/a/new.CSV", "Table (*.csv)", True, "/a/new.CSV"),
        ("/a/new.txt", "Table (*.csv)", True, "/a/new.txt.csv"),
        ("/a/new.svg", "PNG (*.png)", False, "/a/new.svg"),
        ("/a/new", "Folder of PNG files", False, "/a/new"),
    ],
)
def test_a_dialogs_name_gets_its_ending(qtbot, monkeypatch, given, kind, whole, expected):
    parent = QWidget()
    qtbot.addWidget(parent)
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (given, kind))
    assert FileDialogs(parent, "test").save_file("Save", kind, whole) == expected


def test_a_file_that_the_dialog_did_not_ask_about_is_kept(qtbot, monkeypatch, tmp_path, plain):
    parent = QWidget()
    qtbot.addWidget(parent)
    (tmp_path / "table.csv").touch()
    for name, refused in (("table", True), ("table.csv", False)):
        answer = str(tmp_path / name), "Table (*.csv)"
        monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_, answer=answer: answer)
        if refused:
            with pytest.raises(VolumeError) as error:
                FileDialogs(parent, "test").save_file("Save", "Table (*.csv)")
            plain(error.value, "table.csv exists already")
        else:
            assert FileDialogs(parent, "test").save_file("Save", "Table (*.csv)") == str(
                tmp_path / "table.csv"
            )


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero"), os.mkdir])
def test_what_is_no_checkpoint_is_refused_at_once(qtbot, panel, tmp_path, make):
    make(tmp_path / "net.pt")
    panel.load_model(tmp_path / "net.pt")
    qtbot.waitUntil(lambda: not panel.jobs.busy, timeout=5_000)
    assert "choose" in panel.status.text()


def test_loading_can_be_cancelled(qtbot, panel, tmp_path):
    with (tmp_path / "net.pt").open("wb") as file:
        file.truncate(20_000_000_000)  # takes no space
    panel.load_model(tmp_path / "net.pt")
    assert panel.cancel_button.isEnabled()
    panel.cancel_button.click()
    qtbot.waitUntil(lambda: not panel.jobs.busy, timeout=5_000)
    assert "cancelled" in panel.status.text()


def test_a_scan_without_content_is_said(qtbot, panel, tmp_path):
    torch.manual_seed(0)
    net = cv.save_model(VoxResNetGAP(), tmp_path / "net.safetensors", ["a", "b"], cv.InputSpec())
    data, attributes = volume_to_layer(cv.Volume(np.zeros((16, 16, 16)), AFFINE, "empty"))
    panel.viewer.add_image(data, **attributes)
    panel.load_model(net)
    qtbot.waitUntil(lambda: panel.ready and not panel.jobs.busy, timeout=60_000)
    assert panel.status.text().count("same value everywhere (0)") == 1


@pytest.mark.parametrize(
    ("unit", "scale"), [("um", 2000.0), ("m", 0.002), ("mm", 2.0), ("pixel", 2.0)]
)
def test_layers_of_other_readers_are_in_millimetres(unit, scale):
    layer = Image(np.ones((3, 4, 5)), scale=(scale,) * 3, units=(unit,) * 3)
    np.testing.assert_allclose(layer_to_volume(*snapshot(layer)).spacing, 2.0)


@pytest.mark.parametrize(("unit", "scale"), [("um", 2.0), ("mm", 0.002), ("pixel", 2000.0)])
def test_layers_of_impossible_voxels_are_no_scans_but_can_be_saved(tmp_path, plain, unit, scale):
    layer = Image(np.ones((3, 4, 5)), name="odd", scale=(scale,) * 3, units=(unit,) * 3)
    with pytest.raises(VolumeError) as error:
        layer_to_volume(*snapshot(layer))
    plain(error.value, "odd")
    assert write_scan(str(tmp_path / "odd.nii"), *snapshot(layer))


@pytest.mark.parametrize(("unit", "factor"), [("micron", 1000.0), ("meter", 0.001)])
def test_a_scan_of_another_unit_is_shown_and_saved_where_it_lies(tmp_path, unit, factor):
    data = np.random.default_rng(0).random((6, 7, 8), dtype=np.float32)
    image = nib.Nifti1Image(data, np.diag([2 * factor] * 3 + [1.0]))
    image.header.set_xyzt_units(unit)
    image.to_filename(tmp_path / "a.nii")
    shown, attributes, _ = read_scans(str(tmp_path / "a.nii"))[0]
    np.testing.assert_allclose(np.abs(attributes["scale"]), 2)
    (written,) = write_scan(str(tmp_path / "b.nii"), shown, attributes)
    again = nib.load(written)
    assert again.header.get_xyzt_units()[0] == unit
    np.testing.assert_array_equal(again.affine, nib.load(tmp_path / "a.nii").affine)
    np.testing.assert_array_equal(again.dataobj, data)
    labels = np.ones(data.shape, np.int32)
    labels[3:] = 2
    nib.save(nib.Nifti1Image(labels, np.diag([2.0, 2.0, 2.0, 1.0])), tmp_path / "labels.nii")
    scan = layer_to_volume(shown, attributes)
    tree = read_hierarchy([str(tmp_path / "labels.nii")], scan, "RAS")
    assert tree.leaves.shape == scan.shape
