"""Atlases from files in the panel "Inspect"."""

import nibabel as nib
import numpy as np
import pytest

import napari_cnnvis as cv
from napari_cnnvis._napari.layers.regions import regions_of
from napari_cnnvis._napari.layers.scans import volume_to_layer
from napari_cnnvis.scan.volume import Volume

from .made_maps import add_atlas, add_map, make_volume, measured, two_blobs


def save_atlas(path, volume):
    """Two cubes of FreeSurfer's hippocampi in the axes of a volume's file."""
    labels = np.zeros(volume.shape, np.int16)
    labels[2:9, 3:9, 2:9], labels[12:20, 12:18, 9:17] = 17, 53
    nib.save(nib.Nifti1Image(labels, volume.affine), path)
    return labels


@pytest.mark.parametrize("orientation", ["RAS", "LPI", "SAR"])
def test_an_atlas_from_a_file_lies_on_the_scan_and_names_the_rows(
    qtbot, panel, viewer, tmp_path, orientation
):
    volume = make_volume(orientation)
    volume.data[2:9, 3:9, 2:9] = 0.5
    data, attributes = volume_to_layer(volume)
    scan = viewer.add_image(np.zeros_like(data), **attributes)
    layer = add_map(viewer, scan, data)
    labels = save_atlas(tmp_path / "aseg.nii.gz", volume)
    panel.regions.open_atlas(str(tmp_path / "aseg.nii.gz"))
    qtbot.waitUntil(lambda: bool(panel.regions.rows), timeout=30_000)
    qtbot.waitUntil(lambda: not panel.regions.jobs.busy, timeout=30_000)
    atlas = viewer.layers["aseg"]
    assert panel.regions.labels.layer == atlas
    turned = Volume(labels.astype(np.float32), volume.affine).reoriented("SAR")
    np.testing.assert_array_equal(atlas.data, turned.data)
    for voxel in ((0, 0, 0), (3, 4, 5)):
        np.testing.assert_allclose(atlas.data_to_world(voxel), layer.data_to_world(voxel))
    rows = panel.regions.rows
    assert [row.name for row in rows] == ["Left-Hippocampus", "Right-Hippocampus"]
    assert rows[0].mean == pytest.approx(0.5)
    assert rows[0].share_of_positive_mass == pytest.approx(1)
    np.testing.assert_allclose(atlas.get_color(17)[:3], np.array([220, 216, 20]) / 255, atol=0.01)
    assert panel.regions.said.text() == "2 regions. Names from FreeSurfer's numbers."
    panel.regions.export(str(tmp_path / "rois.csv"))
    assert "Left-Hippocampus" in (tmp_path / "rois.csv").read_text()


def test_names_come_from_the_table_that_is_chosen(qtbot, panel, viewer, scan, tmp_path):
    add_map(viewer, scan, two_blobs())
    atlas = add_atlas(viewer, scan)
    before = atlas.get_color(9)
    (tmp_path / "lut.txt").write_text("1 one 255 0 0 0\n5 five 0 0 255 0\n7 seven 0 9 0 0\n")
    panel.regions.take_names(str(tmp_path / "lut.txt"))
    qtbot.waitUntil(lambda: not panel.regions.jobs.busy, timeout=30_000)
    assert {row.label: row.name for row in panel.regions.rows} == {1: "one", 5: "five", 9: ""}
    assert panel.regions.said.text() == "3 regions. Names from lut.txt for 2 regions."
    np.testing.assert_allclose(atlas.get_color(1), (1, 0, 0, 1))
    np.testing.assert_allclose(atlas.get_color(9), before, atol=1e-6)
    (tmp_path / "other.txt").write_text("4000 elsewhere\n")
    panel.regions.take_names(str(tmp_path / "other.txt"))
    assert "no names for the labels" in panel.regions.said.text()
    assert regions_of(atlas).names == {1: "one", 5: "five"}


def test_a_file_that_is_no_atlas_is_one_plain_sentence(qtbot, panel, viewer, scan, tmp_path):
    panel.regions.open_atlas("nowhere.nii.gz")
    assert "nowhere" not in panel.regions.said.text() or panel.regions.jobs.busy
    qtbot.waitUntil(lambda: "nowhere" in panel.regions.said.text(), timeout=30_000)
    scan_file = cv.write_volume(Volume(two_blobs()), tmp_path / "t1.nii.gz")
    panel.regions.open_atlas(str(scan_file))
    qtbot.waitUntil(lambda: "does not hold labels" in panel.regions.said.text(), timeout=30_000)
    assert list(viewer.layers) == [scan]
    viewer.layers.clear()
    panel.regions.open_atlas(str(scan_file))
    assert "First open the scan" in panel.regions.said.text()


def test_an_atlas_is_laid_on_a_scan_before_there_is_a_map(qtbot, panel, viewer, tmp_path):
    volume = make_volume("LPI")
    data, attributes = volume_to_layer(volume)
    scan = viewer.add_image(data, **attributes)
    save_atlas(tmp_path / "atlas.nii.gz", volume)
    (tmp_path / "atlas.tsv").write_text("index\tname\n17\tfirst\n53\tsecond\n")
    panel.regions.open_atlas(str(tmp_path / "atlas.nii.gz"))
    qtbot.waitUntil(lambda: "atlas" in viewer.layers, timeout=30_000)
    assert panel.regions.said.text() == "Names from atlas.tsv."
    assert regions_of(viewer.layers["atlas"]).names == {17: "first", 53: "second"}
    add_map(viewer, scan, data)
    assert [row.name for row in measured(qtbot, panel)] == ["first", "second"]
