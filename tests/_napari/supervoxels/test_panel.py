"""The panel "Supervoxels": build, cut, look into regions, files, atlases."""

import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Labels

import napari_cnnvis as cv
from napari_cnnvis._napari.layers.maps import OVERLAY_KEY, REGIONS_KEY
from napari_cnnvis._napari.layers.regions import HIERARCHY_KEY
from napari_cnnvis._napari.layers.scans import layer_to_volume, snapshot, volume_to_layer
from napari_cnnvis._napari.supervoxels import hierarchy_files
from napari_cnnvis._napari.supervoxels.panel import _BOUNDARIES, SupervoxelPanel
from napari_cnnvis._napari.supervoxels.region_slider import RegionSlider
from napari_cnnvis._napari.widgets.layer_picker import LayerPicker
from napari_cnnvis._napari.widgets.words import volume_text
from napari_cnnvis.explain.scoring.region_scores import RegionScores
from napari_cnnvis.models.outputs import Outputs
from napari_cnnvis.ucm.build import BOUNDARIES

SPACING = (1.0, 1.5, 2.0)
SHAPE = (20, 22, 24)


def make_scan(name="scan", seed=0):
    """A head of blocks, stored as LAS with unequal voxel sides."""
    rng = np.random.default_rng(seed)
    blocks = rng.uniform(100, 900, [n // 4 + 1 for n in SHAPE])
    data = blocks.repeat(4, 0).repeat(4, 1).repeat(4, 2)[tuple(slice(n) for n in SHAPE)]
    data = data + rng.normal(0, 15, SHAPE)
    for axis in range(3):
        np.moveaxis(data, axis, 0)[:2] = 0
    affine = np.diag([-SPACING[0], SPACING[1], SPACING[2], 1])
    affine[:3, 3] = [9, -20, 5]
    return cv.Volume(data, affine, name)


@pytest.fixture
def panel(qtbot):
    viewer = ViewerModel()
    panel = SupervoxelPanel(viewer)
    qtbot.addWidget(panel)
    panel.viewer = viewer
    yield panel
    panel.jobs.cancel()
    qtbot.waitUntil(lambda: not panel.jobs.busy, timeout=60_000)


@pytest.fixture
def scan(panel):
    data, attributes = volume_to_layer(make_scan())
    return panel.viewer.add_image(data, **attributes)


def idle(qtbot, panel):
    qtbot.waitUntil(lambda: not panel.jobs.busy, timeout=60_000)


@pytest.fixture
def built(qtbot, panel, scan):
    panel.build_button.click()
    idle(qtbot, panel)
    assert panel.status.text() == ""
    return panel


def labels_of(panel):
    return panel.viewer.layers[-1]


def same_partition(a, b):
    pairs = np.unique(np.stack([a.ravel(), b.ravel()]), axis=1)
    return len(np.unique(pairs[0])) == len(np.unique(pairs[1])) == pairs.shape[1]


def click(viewer, voxel, layer, *, to=(0, 0), button=1, **how):
    """Press on a voxel, move by some pixels, release, as the canvas tells a viewer's callbacks."""
    event = SimpleNamespace(
        button=button,
        modifiers=(),
        type="mouse_press",
        pos=(100, 100),
        position=layer.data_to_world(voxel),
        dims_displayed=[1, 2],
        view_direction=None,
    )
    vars(event).update(how)
    listening = [callback(viewer, event) for callback in viewer.mouse_drag_callbacks]
    listening = [one for one in listening if hasattr(one, "send")]
    for pos, kind in (((100, 100), ""), (to, "mouse_move"), (to, "mouse_release")):
        if kind == "mouse_move" and to == (0, 0):
            continue
        event.type = kind or event.type
        event.pos = (100 + pos[0], 100 + pos[1]) if kind else pos
        for one in listening:
            next(one, None)


def inside(hierarchy):
    """Some voxel that belongs to a region."""
    where = np.argwhere(hierarchy.leaves > 0)
    return tuple(int(i) for i in where[len(where) // 2])


# --- building ---------------------------------------------------------------------


def test_empty_panel_says_what_to_do(panel):
    assert "Open a scan" in panel.said.text()
    assert not panel.build_button.isEnabled()
    assert panel.slider.isHidden()
    data, attributes = volume_to_layer(make_scan())
    panel.viewer.add_image(data, **attributes)
    assert "Press Build" in panel.said.text()
    assert panel.build_button.isEnabled()


def test_panel_offers_the_librarys_boundaries_with_what_they_cost():
    assert tuple(_BOUNDARIES) == BOUNDARIES


def test_panel_needs_no_torch():
    code = "import sys, napari_cnnvis._napari.supervoxels.panel; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_built_hierarchy_is_the_librarys_and_lies_on_the_scan(built, scan):
    layer = labels_of(built)
    assert isinstance(layer, Labels)
    expected = cv.build_hierarchy(layer_to_volume(*snapshot(scan)))
    kept = layer.metadata[HIERARCHY_KEY]
    np.testing.assert_array_equal(kept.leaves, expected.leaves)
    np.testing.assert_array_equal(kept.parents, expected.parents)
    for corner in ((0, 0, 0), (3, 5, 7), (20, 1, 2)):
        np.testing.assert_allclose(layer.data_to_world(corner), scan.data_to_world(corner))
    assert layer.units == scan.units
    assert layer.axis_labels == scan.axis_labels
    assert f"{kept.n_leaves:,} supervoxels of scan" in built.said.text()


def test_chosen_boundary_reaches_the_library(qtbot, panel, scan, monkeypatch):
    from napari_cnnvis.ucm import build

    asked = []

    def record(volume, boundary, cancel, progress):
        asked.append(boundary)
        return cv.Hierarchy.from_levels([(volume.data > 0).astype(int)], background=0)

    monkeypatch.setattr(build, "build_hierarchy", record)
    panel.boundary.setCurrentIndex(1)
    panel.build()
    idle(qtbot, panel)
    assert asked == ["gpb"]


def test_another_panel_takes_up_the_layer_of_the_first(qtbot, built):
    layer = labels_of(built)
    second = SupervoxelPanel(built.viewer)
    qtbot.addWidget(second)
    second.take(layer)
    idle(qtbot, second)
    assert second.view.labels is layer
    assert len(built.viewer.layers) == 2
    layer.show_selected_label = True
    assert second.only_selected.isChecked()


def test_cancelled_build_shows_nothing_and_says_so(qtbot, panel, scan, monkeypatch):
    from napari_cnnvis.errors import Cancelled
    from napari_cnnvis.ucm import build

    def wait(volume, boundary, cancel, progress):
        assert cancel.wait(30)
        raise Cancelled("Building the supervoxels was cancelled.")

    monkeypatch.setattr(build, "build_hierarchy", wait)
    panel.build()
    assert not panel.cancel_button.isHidden()
    panel.cancel_button.click()
    idle(qtbot, panel)
    assert panel.status.text() == "Building the supervoxels was cancelled."
    assert len(panel.viewer.layers) == 1
    assert panel.build_button.isEnabled()
    assert panel.cancel_button.isHidden()


def test_a_constant_scan_is_one_plain_sentence(qtbot, panel):
    panel.viewer.add_image(np.ones((5, 6, 7), np.float32))
    panel.build()
    idle(qtbot, panel)
    assert "nothing to segment" in panel.status.text()
    assert "Traceback" not in panel.status.text()


def test_another_build_hides_the_first_and_keeps_it(qtbot, built):
    first = labels_of(built)
    built.build()
    idle(qtbot, built)
    assert labels_of(built) is not first
    assert first in built.viewer.layers
    assert not first.visible
    built.take(first)
    idle(qtbot, built)
    assert first.visible
    assert built.view.labels is first
    assert len(built.viewer.layers) == 3


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
    idle(qtbot, panel)
    assert isinstance(labels_of(panel), Labels)


# --- the number of regions ----------------------------------------------------------


def test_slider_is_about_even_in_the_logarithm(qtbot):
    slider = RegionSlider()
    qtbot.addWidget(slider)
    slider.offer(np.arange(1, 10_001))
    middle = slider.slider.maximum() // 2
    slider.slider.setValue(middle)
    assert 50 < slider.value < 500
    assert slider.box.value() == slider.value


def test_box_steps_through_the_numbers_that_there_are(qtbot):
    slider = RegionSlider()
    qtbot.addWidget(slider)
    slider.offer(np.array([3, 17, 90]))
    slider.show_value(17)
    changes = []
    slider.changed.connect(changes.append)
    slider.box.stepBy(1)
    slider.box.stepBy(-1)
    slider.box.setValue(5)
    assert changes == [90, 17, 3]
    assert slider.box.value() == 3


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


# --- contours -----------------------------------------------------------------------


def test_contours_lie_on_the_scan_and_are_no_scan(qtbot, built, scan):
    built.contours.click()
    idle(qtbot, built)
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
    idle(qtbot, built)
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
    idle(qtbot, built)
    built.viewer.layers.remove(labels_of(built))
    assert not built.contours.isChecked()
    built.contours.click()
    idle(qtbot, built)
    built.build()
    idle(qtbot, built)
    assert not built.contours.isChecked()
    assert [layer.name for layer in built.viewer.layers if "Contours" in layer.name] == []


# --- files and other layers -----------------------------------------------------------


def test_saved_hierarchy_opens_again_and_is_the_librarys(qtbot, built, tmp_path):
    path = tmp_path / "scan.npz"
    before = built.hierarchy
    built.save(str(path))
    idle(qtbot, built)
    assert built.status.text() == "Saved scan.npz."
    loaded = cv.Hierarchy.load(path)
    volume = make_scan()  # with the axes of its file, not of the layer
    assert loaded.leaves.shape == volume.shape != before.leaves.shape
    means = loaded.node_means(volume.data)
    np.testing.assert_allclose(means, built.view.facts.mean, rtol=1e-5)
    built.open([str(path)])
    idle(qtbot, built)
    assert built.hierarchy is not before
    np.testing.assert_array_equal(built.hierarchy.leaves, before.leaves)
    np.testing.assert_array_equal(built.hierarchy.altitudes, before.altitudes)


def test_levels_saved_as_nifti_lie_where_the_scan_does_and_open_again(qtbot, built, tmp_path):
    import nibabel as nib

    path = tmp_path / "levels.nii.gz"
    before = built.hierarchy
    built.save(str(path))
    idle(qtbot, built)
    image = nib.load(path)
    np.testing.assert_allclose(image.affine, make_scan().affine, atol=1e-5)
    flipped = image.as_reoriented(nib.orientations.axcodes2ornt("RPI"))
    nib.save(flipped, tmp_path / "flipped.nii.gz")
    for name in ("levels.nii.gz", "flipped.nii.gz"):
        built.open([str(tmp_path / name)])
        idle(qtbot, built)
        assert built.status.text() == ""
        for count in {len(np.unique(level)) for level in before.levels}:
            built.slider.box.setValue(count)
            assert same_partition(labels_of(built).data, before.cut(count))


def test_several_label_files_are_one_hierarchy(qtbot, panel, scan, tmp_path):
    volume = make_scan()
    fine = (np.arange(volume.data.size).reshape(volume.shape) % volume.shape[2]) // 4 + 1
    np.save(tmp_path / "fine.npy", fine)
    np.save(tmp_path / "coarse.npy", (fine + 2) // 3)
    panel.open([str(tmp_path / name) for name in ("coarse.npy", "fine.npy")])
    idle(qtbot, panel)
    assert list(panel.slider.box.counts) == [2, 6]
    panel.slider.box.setValue(2)
    assert len(labels_of(panel).features) == 2


def test_labels_of_another_grid_are_refused_in_words(qtbot, panel, scan, tmp_path):
    import nibabel as nib

    volume = make_scan()
    np.save(tmp_path / "small.npy", np.ones((4, 5, 6), np.int32))
    moved = volume.affine.copy()
    moved[:3, 3] += 30
    ones = np.ones(volume.shape, np.int16)
    nib.save(nib.Nifti1Image(ones, moved), tmp_path / "moved.nii.gz")
    (tmp_path / "broken.npz").write_bytes(b"nothing")
    for name, word in (
        ("small.npy", "4 × 5 × 6"),
        ("moved.nii.gz", "away from the scan"),
        ("broken.npz", "broken.npz"),
    ):
        panel.open([str(tmp_path / name)])
        idle(qtbot, panel)
        assert word in panel.status.text()
        assert "Please report" not in panel.status.text()
    assert len(panel.viewer.layers) == 1


def test_layers_of_other_readers_keep_their_axes(tmp_path):
    data = np.random.default_rng(0).integers(1, 9, (4, 5, 6))
    np.save(tmp_path / "labels.npy", data)
    scan = cv.Volume(np.zeros((4, 5, 6)), np.diag([2, 3, 4, 1]), orientation_known=False)
    hierarchy = hierarchy_files.read_hierarchy(
        [str(tmp_path / "labels.npy")], scan, scan.orientation
    )
    assert same_partition(hierarchy.leaves, data)


def test_any_labels_layer_of_the_scans_shape_can_be_taken(qtbot, panel, scan):
    atlas = np.zeros(scan.data.shape, int)
    atlas[3:9, 3:9, 3:9] = 4
    atlas[9:15, 3:9, 3:9] = 17
    panel.viewer.add_labels(atlas, name="atlas")
    panel.viewer.add_labels(np.ones((3, 3, 3), int), name="elsewhere")
    menu = panel.from_layer.menu()
    menu.aboutToShow.emit()
    assert [action.text() for action in menu.actions()] == ["atlas"]
    menu.actions()[0].trigger()
    idle(qtbot, panel)
    assert panel.hierarchy.n_leaves == 2
    assert same_partition(labels_of(panel).data, atlas)
    assert not panel.slider.isEnabled()
    assert "2 regions on one level" in panel.said.text()


def test_menu_of_labels_layers_says_when_there_is_none(panel, scan):
    menu = panel.from_layer.menu()
    menu.aboutToShow.emit()
    assert [action.isEnabled() for action in menu.actions()] == [False]


# --- drops ----------------------------------------------------------------------------


def scores_of(hierarchy):
    """Scores of two classes; only the coarsest eight regions were scored."""
    logits = np.full((2, hierarchy.n_nodes, 2), np.nan, np.float32)
    logits[:, -8:] = np.random.default_rng(0).normal(size=(2, 8, 2))
    clean = np.array([0.3, -0.2], np.float32)
    return RegionScores(
        clean, logits, ("blur", "0"), Outputs("softmax", 2), hierarchy, hierarchy.levels
    )


def add_map(viewer, scores, class_=1, **more):
    shown = {"class": class_, "class_name": "patient", "score": "logit", **more}
    metadata = {OVERLAY_KEY: shown, REGIONS_KEY: scores}
    return viewer.add_image(np.zeros(scores.hierarchy.leaves.shape), metadata=metadata)


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
    overlay.metadata = overlay.metadata | {
        OVERLAY_KEY: {"class": 0, "class_name": "control", "score": "logit", "shown": "0"}
    }
    drops = scores.values(0, "drop", "logit", "0")
    np.testing.assert_array_equal(layer.features["drop"], drops[nodes])
    built.viewer.layers.remove(overlay)
    assert "drop" not in layer.features
    assert built.chain.item(len(built.chain.nodes) - 1, 4).text() == "–"


# --- the end --------------------------------------------------------------------------


@pytest.mark.window
def test_closed_panel_leaves_the_viewer_alone(make_napari_viewer, qtbot):
    viewer = make_napari_viewer()
    callbacks = list(viewer.mouse_drag_callbacks)
    dock, panel = viewer.window.add_plugin_dock_widget("napari-cnnvis", "Supervoxels")
    assert len(viewer.mouse_drag_callbacks) == len(callbacks) + 1
    _, other = viewer.window.add_plugin_dock_widget("napari-cnnvis", "Explain CNN")
    window = dock.parent()
    qtbot.waitUntil(lambda: other.parent() in window.tabifiedDockWidgets(dock), timeout=5000)
    viewer.window.remove_dock_widget(dock)
    assert viewer.mouse_drag_callbacks == callbacks
    viewer.add_image(np.zeros((3, 4, 5)))
    panel.deleteLater()
