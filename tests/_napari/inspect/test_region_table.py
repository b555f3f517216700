"""The table of regions of interest in the panel "Inspect"."""

import csv

import numpy as np
import pytest

import napari_cnnvis as cv
from napari_cnnvis._napari.inspect import region_table as inspect_regions
from napari_cnnvis._napari.layers.maps import style_overlay
from napari_cnnvis._napari.layers.place import affine_of
from napari_cnnvis.evaluate.roi_tables import roi_table

from .made_maps import SHAPE, add_atlas, add_map, attribution, make_volume, measured, two_blobs


def test_region_table_is_the_librarys_with_the_names_of_the_features(qtbot, panel, viewer, scan):
    layer = add_map(viewer, scan, two_blobs())
    assert not panel.regions.measure_button.isEnabled()
    atlas = add_atlas(viewer, scan)
    panel.threshold.setValue(0.1)
    panel.minimum.setValue(100)  # changes what is shown, not what is measured
    rows = measured(qtbot, panel)
    names = {1: "thalamus, left", 5: "amygdala"}
    assert rows == roi_table(two_blobs(), atlas.data, names, affine=affine_of(layer))
    assert [row.name for row in rows] == ["thalamus, left", "amygdala", ""]
    assert rows[0].share_of_positive_mass == pytest.approx(30.1 / (30.1 + 6.5))
    model = panel.regions.model
    texts = [model.data(model.index(0, c)) for c in range(model.columnCount())]
    assert texts[:2] == ["1", "thalamus, left"]
    panel.regions.table.clicked.emit(model.index(1, 0))
    assert panel.voxel.voxel == (13, 16, 19)
    np.testing.assert_allclose(viewer.dims.point, layer.data_to_world((13, 16, 19)))


def test_labels_on_another_grid_are_brought_onto_the_maps(qtbot, panel, viewer, scan):
    layer = add_map(viewer, scan, two_blobs())
    atlas = add_atlas(viewer, scan)
    expected = measured(qtbot, panel)
    scale = np.array(scan.scale) * (-1, 1, 1)
    start = np.array(scan.data_to_world((SHAPE[0] - 1, 3, 0)))
    viewer.add_labels(
        np.flip(atlas.data, 0)[:, 3:], scale=scale, translate=start, features=atlas.features
    )
    viewer.layers.remove(atlas)
    rows = measured(qtbot, panel)
    known = roi_table(
        layer.data,
        np.where(np.arange(22)[:, None] >= 3, atlas.data, 0),
        {1: "thalamus, left", 5: "amygdala"},
        affine=affine_of(layer),
    )
    assert rows == known
    assert [r for r in rows if r.label == 5] == [r for r in expected if r.label == 5]


def test_exported_table_is_read_back(qtbot, panel, viewer, scan, tmp_path):
    add_map(viewer, scan, two_blobs() - 0.2)
    add_atlas(viewer, scan)
    assert not panel.regions.export_button.isEnabled()
    rows = measured(qtbot, panel)
    assert panel.regions.export_button.isEnabled()
    panel.regions.export(str(tmp_path / "rois.csv"))
    with (tmp_path / "rois.csv").open(newline="") as file:
        read = list(csv.DictReader(file))
    assert [int(r["label"]) for r in read] == [row.label for row in rows]
    assert [r["name"] for r in read] == [row.name for row in rows]
    for column in ("mean", "share_of_positive_mass", "share_of_negative_mass", "peak"):
        assert [float(r[column]) for r in read] == [getattr(row, column) for row in rows]
    panel.regions.export(str(tmp_path / "nowhere" / "rois.csv"))
    assert "nowhere" in panel.regions.said.text()


def test_table_goes_when_the_map_is_another(qtbot, panel, viewer, scan):
    layer = add_map(viewer, scan, two_blobs())
    add_atlas(viewer, scan)
    assert measured(qtbot, panel)
    style_overlay(layer, attribution(two_blobs() * 2, make_volume()))
    assert panel.regions.rows == []
    assert not panel.regions.export_button.isEnabled()


def test_an_empty_atlas_is_one_plain_sentence(qtbot, panel, viewer, scan):
    add_map(viewer, scan, two_blobs())
    viewer.add_labels(np.zeros(SHAPE, int))
    assert measured(qtbot, panel) == []
    assert "no region" in panel.regions.said.text()


def test_regions_of_a_sample_are_offered_where_they_are_there(
    qtbot, panel, viewer, scan, tmp_path, monkeypatch
):
    truth = make_volume("RAS", np.diag([1.0, 1.5, 2.0, 1]))
    truth.data[5:8, 5:8, 5:8] = 1
    path = cv.write_volume(truth, tmp_path / "scan_changed.nii.gz")
    monkeypatch.setattr(
        inspect_regions, "sample_regions", lambda layer: path if layer.name == "it" else None
    )
    add_map(viewer, scan, two_blobs())
    assert panel.regions.sample_button.isHidden()
    viewer.layers[-1].name = "it"
    panel.regions.look_at(panel.view)
    assert not panel.regions.sample_button.isHidden()
    panel.regions.sample_button.click()
    qtbot.waitUntil(lambda: not panel.regions.jobs.busy, timeout=30_000)
    (row,) = panel.regions.rows
    assert row.name == "changed by the simulation"
    assert row.volume_mm3 == pytest.approx(27 * 3)
    assert panel.regions.sample_button.isHidden()
