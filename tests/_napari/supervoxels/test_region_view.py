"""The regions of a cut as a layer, with its table and its contours."""

import numpy as np
import pytest
from napari.layers import Labels

from napari_cnnvis._napari.widgets.layer_picker import LayerPicker

from ..waiting import settle
from .region_steps import SPACING, click, inside, labels_of, same_partition

# --- cutting ----------------------------------------------------------------------


def test_slider_cuts_as_the_library_does(built):
    hierarchy = built.hierarchy
    for count in (40, 7, 1, hierarchy.n_leaves):
        built.slider.box.setValue(count)
        data = labels_of(built).data
        assert data.dtype == np.int32
        assert same_partition(data, hierarchy.cut(count))
        assert ((data == 0) == (hierarchy.leaves == 0)).all()


def test_dragging_the_slider_recuts(built):
    built.slider.slider.setValue(0)
    assert len(np.unique(labels_of(built).data)) == 2
    built.slider.slider.setValue(built.slider.slider.maximum())
    assert len(np.unique(labels_of(built).data)) == built.hierarchy.n_leaves + 1


def test_a_region_keeps_its_label_and_colour_while_others_merge(built):
    layer = labels_of(built)
    built.slider.box.setValue(30)
    before = layer.data.copy()
    colours = {label: layer.get_color(label) for label in np.unique(before)}
    built.slider.box.setValue(29)
    after = layer.data
    kept = np.intersect1d(before, after)
    assert len(kept) == 30 + 1 - 2
    for label in kept:
        np.testing.assert_array_equal(before == label, after == label)
        np.testing.assert_array_equal(layer.get_color(label), colours[label])


def test_table_has_volume_mean_and_altitude_of_each_region(built, scan):
    layer = labels_of(built)
    for count in (25, 5):
        built.slider.box.setValue(count)
        table = layer.features
        assert len(table) == count
        for row in table.itertuples():
            region = layer.data == row.index
            assert row.volume_mm3 == pytest.approx(region.sum() * np.prod(SPACING))
            assert row.mean_intensity == pytest.approx(scan.data[region].mean(), rel=1e-5)
            assert row.altitude == built.hierarchy.altitudes[row.index - 1]
        assert "drop" not in table


def test_deleted_layer_comes_back_with_the_next_cut(built, scan):
    viewer = built.viewer
    viewer.layers.remove(labels_of(built))
    click(viewer, inside(built.hierarchy), scan)
    assert built.chain.rowCount() == 0
    built.show_region(0)
    assert isinstance(labels_of(built), Labels)
    viewer.layers.clear()
    built.slider.box.setValue(9)
    assert [type(layer) for layer in viewer.layers] == [Labels]
    assert len(labels_of(built).features) == 9
    np.testing.assert_array_equal(labels_of(built).scale, scan.scale)
    assert not built.build_button.isEnabled()


def test_renamed_layer_is_still_the_one_that_is_cut(built):
    labels_of(built).name = "mine"
    built.slider.box.setValue(4)
    assert len(built.viewer.layers) == 2
    assert len(np.unique(built.viewer.layers["mine"].data)) == 5


def test_scan_removed_during_the_build_does_no_harm(qtbot, panel, scan):
    panel.build()
    panel.viewer.layers.remove(scan)
    settle(qtbot, panel)
    assert isinstance(labels_of(panel), Labels)


# --- contours -----------------------------------------------------------------------


def test_contours_lie_on_the_scan_and_are_no_scan(qtbot, built, scan):
    built.contours.click()
    settle(qtbot, built)
    layer = labels_of(built)
    np.testing.assert_array_equal(layer.data, built.hierarchy.contour_map())
    np.testing.assert_allclose(layer.data_to_world((3, 4, 5)), scan.data_to_world((3, 4, 5)))
    assert built.scan.count() == 1
    assert LayerPicker(built.viewer).count() == 1
    assert built.status.text() == ""
    built.contours.click()
    assert layer not in built.viewer.layers


def test_contours_are_those_of_the_cut(qtbot, built):
    built.contours.click()
    settle(qtbot, built)
    contours = labels_of(built)
    for count in (60, 12, 1):
        built.slider.box.setValue(count)
        shown = contours.data >= contours.contrast_limits[0]
        labels = built.viewer.layers[1].data
        expected = np.zeros(labels.shape, bool)
        for axis in range(3):
            near, far = (np.moveaxis(labels, axis, 0)[s] for s in (slice(-1), slice(1, None)))
            edge = (near != far) & (near > 0) & (far > 0)
            np.moveaxis(expected, axis, 0)[:-1] |= edge
        np.testing.assert_array_equal(shown, expected)


def test_deleted_contours_untick_their_box(qtbot, built):
    built.contours.click()
    settle(qtbot, built)
    built.viewer.layers.remove(labels_of(built))
    assert not built.contours.isChecked()
    built.contours.click()
    settle(qtbot, built)
    built.build()
    settle(qtbot, built)
    assert not built.contours.isChecked()
    assert [layer.name for layer in built.viewer.layers if "Contours" in layer.name] == []
