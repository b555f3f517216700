"""Clicking into regions: the chain from leaf to top, and the drops of a map."""

import numpy as np
import pytest

import napari_cnnvis as cv
from napari_cnnvis._napari.layers.maps import map_arguments, mark_as_map
from napari_cnnvis._napari.widgets.words import volume_text
from napari_cnnvis.explain.attribution import Attribution
from napari_cnnvis.explain.scoring.region_scores import RegionScores
from napari_cnnvis.models.outputs import Outputs

from .region_steps import SPACING, click, inside, labels_of

# --- clicking -------------------------------------------------------------------------


def test_click_lists_the_chain_from_leaf_to_top(built, scan):
    hierarchy = built.hierarchy
    voxel = inside(hierarchy)
    built.slider.box.setValue(10)
    click(built.viewer, voxel, scan)
    nodes = hierarchy.chain(voxel)
    np.testing.assert_array_equal(built.chain.nodes, nodes)
    assert built.chain.rowCount() == len(nodes) > 2
    assert built.chain.item(0, 0).text() == f"{hierarchy.n_leaves:,}"
    top = [built.chain.item(len(nodes) - 1, column).text() for column in range(5)]
    volume = (hierarchy.leaves > 0).sum() * np.prod(SPACING)
    assert top[:2] == ["1", volume_text(volume)]
    assert top[4] == "–"
    (row,) = {index.row() for index in built.chain.selectedIndexes()}
    assert nodes[row] + 1 == labels_of(built).data[voxel] == labels_of(built).selected_label


def test_every_row_is_a_region_of_the_cut_that_it_names(built, scan):
    click(built.viewer, inside(built.hierarchy), scan)
    for row, node in enumerate(built.chain.nodes):
        built.chain.selectRow(row)
        count = int(built.chain.item(row, 0).text().replace(",", ""))
        assert built.slider.value == count
        layer = labels_of(built)
        assert layer.selected_label == node + 1
        assert (layer.data == node + 1).sum() == built.hierarchy.sizes[node]
        assert layer.show_selected_label
        assert built.only_selected.isChecked()


def test_other_regions_can_be_shown_again(built, scan):
    click(built.viewer, inside(built.hierarchy), scan)
    built.chain.selectRow(1)
    built.only_selected.setChecked(False)
    assert not labels_of(built).show_selected_label
    labels_of(built).show_selected_label = True
    assert built.only_selected.isChecked()


def test_the_row_follows_the_slider(built, scan):
    voxel = inside(built.hierarchy)
    click(built.viewer, voxel, scan)
    for count in (50, 10, 1):
        built.slider.box.setValue(count)
        (row,) = {index.row() for index in built.chain.selectedIndexes()}
        assert built.chain.nodes[row] + 1 == labels_of(built).data[voxel]


def test_click_in_3d_takes_the_first_region_on_the_line_of_sight(built, scan):
    hierarchy = built.hierarchy
    voxel = inside(hierarchy)
    ahead = np.subtract(scan.data_to_world((1, 0, 0)), scan.data_to_world((0, 0, 0)))
    seen = {"dims_displayed": [0, 1, 2], "view_direction": ahead / np.linalg.norm(ahead)}
    click(built.viewer, voxel, scan, **seen)
    first = int(np.flatnonzero(hierarchy.leaves[:, voxel[1], voxel[2]])[0])
    np.testing.assert_array_equal(built.chain.nodes, hierarchy.chain((first, *voxel[1:])))
    layer = labels_of(built)
    layer.selected_label = int(layer.data[voxel])
    layer.show_selected_label = True
    click(built.viewer, voxel, scan, **seen)
    first = int(np.flatnonzero(layer.data[:, voxel[1], voxel[2]] == layer.selected_label)[0])
    np.testing.assert_array_equal(built.chain.nodes, hierarchy.chain((first, *voxel[1:])))


@pytest.mark.parametrize(
    "how", [{"to": (30, 0)}, {"button": 2}, {"modifiers": ("Shift",)}], ids=str
)
def test_drags_and_other_buttons_are_left_alone(built, scan, how):
    click(built.viewer, inside(built.hierarchy), scan, **how)
    assert built.chain.rowCount() == 0


def test_a_hand_that_trembles_still_clicks(built, scan):
    click(built.viewer, inside(built.hierarchy), scan, to=(2, 1))
    assert built.chain.rowCount() > 0


def test_painting_is_left_alone(built, scan):
    layer = labels_of(built)
    built.viewer.layers.selection.active = layer
    layer.mode = "paint"
    click(built.viewer, inside(built.hierarchy), scan)
    assert built.chain.rowCount() == 0
    layer.mode = "pan_zoom"
    click(built.viewer, inside(built.hierarchy), scan)
    assert built.chain.rowCount() > 0


def test_clicks_on_the_background_and_beside_the_scan_do_nothing(built, scan):
    click(built.viewer, inside(built.hierarchy), scan)
    rows = built.chain.rowCount()
    for voxel in ((0, 0, 0), (-40, 3, 3), (5, 900, 5)):
        click(built.viewer, voxel, scan)
    assert built.chain.rowCount() == rows


@pytest.mark.parametrize(
    ("millimetres", "text"),
    [(6, "6 mm³"), (999, "999 mm³"), (1000, "1 cm³"), (12_345, "12.3 cm³"), (2.1e6, "2,100 cm³")],
)
def test_volumes_have_handy_units(millimetres, text):
    assert volume_text(millimetres) == text


# --- drops ----------------------------------------------------------------------------


def scores_of(hierarchy):
    """Scores of two classes; only the coarsest eight regions were scored."""
    logits = np.full((2, hierarchy.n_nodes, 2), np.nan, np.float32)
    logits[:, -8:] = np.random.default_rng(0).normal(size=(2, 8, 2))
    clean = np.array([0.3, -0.2], np.float32)
    return RegionScores(
        clean, logits, ("blur", "0"), Outputs("softmax", 2), hierarchy, hierarchy.levels
    )


def map_with(scores, **more):
    shown = {"method": "UCM sensitivity", "class": 1, "class_name": "patient", "score": "logit"}
    volume = cv.Volume(np.zeros(scores.hierarchy.leaves.shape))
    return Attribution(volume.data, volume.affine, shown | more, volume, regions=scores)


def add_map(viewer, scores):
    made = map_with(scores)
    return viewer.add_image(made.data, **map_arguments({}, made))


def test_drops_of_a_map_of_this_hierarchy_are_shown_while_it_is_there(built, scan):
    hierarchy = built.hierarchy
    layer = labels_of(built)
    built.slider.box.setValue(2)
    click(built.viewer, inside(hierarchy), scan)
    add_map(built.viewer, scores_of(cv.Hierarchy.from_levels([hierarchy.leaves])))
    assert "drop" not in layer.features  # of another hierarchy
    scores = scores_of(hierarchy)
    overlay = add_map(built.viewer, scores)
    drops = scores.values(1, "drop", "logit")
    nodes = layer.features["index"] - 1
    np.testing.assert_array_equal(layer.features["drop"], drops[nodes])
    assert built.chain.item(len(built.chain.nodes) - 1, 4).text() == f"{drops[-1]:+.2g}"
    mark_as_map(overlay, map_with(scores, **{"class": 0, "class_name": "control", "shown": "0"}))
    drops = scores.values(0, "drop", "logit", "0")
    np.testing.assert_array_equal(layer.features["drop"], drops[nodes])
    built.viewer.layers.remove(overlay)
    assert "drop" not in layer.features
    assert built.chain.item(len(built.chain.nodes) - 1, 4).text() == "–"
