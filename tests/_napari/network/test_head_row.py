"""The row "Head": found in the scan or a mask of the user's own, shown, and taken by all panels."""

import os

import numpy as np
import pytest
import torch
from torch import nn

import napari_cnnvis as cv
from napari_cnnvis._napari.explain.panel import ExplainPanel
from napari_cnnvis._napari.layers.maps import map_of
from napari_cnnvis._napari.layers.scans import volume_to_layer
from napari_cnnvis._napari.supervoxels.panel import SupervoxelPanel
from napari_cnnvis._napari.trust.panel import TrustPanel
from napari_cnnvis.errors import MethodError
from napari_cnnvis.scan.head import find_head
from napari_cnnvis.scan.volume import HEAD_FOUND

from ..waiting import settle

AFFINE = np.array([[0, -2.0, 0, 20], [2, 0, 0, -15], [0, 0, 3, 7], [0, 0, 0, 1]])


def volume_of(seed=0, name="scan"):
    grid = np.indices((16, 17, 18)) - np.array([8, 8, 9])[:, None, None, None]
    noise = np.random.default_rng(seed).uniform(0.5, 1, grid[0].shape)
    return cv.Volume(np.where((grid**2).sum(0) < 40, noise, 0), AFFINE, name)


@pytest.fixture
def panel(opened):
    return opened(ExplainPanel)


@pytest.fixture
def scan(panel, viewer):
    data, arguments = volume_to_layer(volume_of())
    return viewer.add_image(data, **arguments)


@pytest.fixture
def row(panel, scan):
    return panel.network.head


@pytest.fixture
def mask(viewer, scan):
    """A Labels layer on the scan: a part of the head."""
    labels = np.zeros(scan.data.shape, np.int32)
    labels[6:12, 5:11, 4:9] = 3
    return viewer.add_labels(labels, scale=scan.scale, translate=scan.translate, name="mine")


@pytest.fixture
def network(qtbot, panel, scan):
    torch.manual_seed(0)
    net = nn.Sequential(
        *(nn.Conv3d(1, 4, 3, padding=1), nn.ReLU()),
        *(nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(4, 2)),
    )
    panel.use_model(cv.Model(net, ["control", "patient"], device="cpu"))
    settle(qtbot, panel)


def entries(row):
    return [row.picker.itemText(number) for number in range(row.picker.count())]


def pick(row, text):
    """Choose an entry as a user does."""
    number = entries(row).index(text)
    row.picker.setCurrentIndex(number)
    row.picker.activated.emit(number)


def show(qtbot, row):
    row.show_button.setChecked(True)
    qtbot.waitUntil(lambda: row.layer is not None, timeout=10_000)
    return row.layer


def run(qtbot, panel, method="box"):
    panel.method_form.choose_method(method)
    panel.run()
    settle(qtbot, panel)
    return panel.session.result.attribution


# --- what can be chosen ----------------------------------------------------------------


def test_the_head_is_found_unless_something_is_chosen(row):
    assert entries(row) == ["found in the scan", "from a file…"]
    assert row.picker.currentText() == "found in the scan"


def test_labels_on_the_scans_grid_are_listed_and_no_others(row, viewer, scan, mask):
    same = np.ones(scan.data.shape, np.uint8)
    viewer.add_labels(same, name="elsewhere", scale=scan.scale, translate=scan.translate + 7)
    viewer.add_labels(same, name="coarse", scale=scan.scale * 2, translate=scan.translate)
    viewer.add_labels(same[1:], name="small", scale=scan.scale, translate=scan.translate)
    assert entries(row) == ["found in the scan", "mine", "from a file…"]
    mask.name = "ours"
    assert entries(row)[1] == "ours"


def test_labels_whose_axes_run_the_other_way_lie_on_the_grid(qtbot, row, panel, viewer, scan, mask):
    """As those that napari makes itself, with its button for new labels."""
    far = scan.translate + scan.scale * (np.array(scan.data.shape) - 1)
    flipped = mask.data[::-1, ::-1, ::-1]
    viewer.add_labels(flipped, name="new", scale=-scan.scale, translate=far)
    pick(row, "new")
    taken = panel.session.heads.snapshot(scan)[1]["head"]
    np.testing.assert_array_equal(taken["head"], mask.data > 0)


def test_it_is_the_sessions_and_another_panel_shows_it(qtbot, opened, row, panel, scan, mask):
    pick(row, "mine")
    assert panel.session.heads.choice(scan) == mask
    other = opened(ExplainPanel)
    assert other.network.head.picker.currentText() == "mine"
    pick(other.network.head, "found in the scan")
    assert row.picker.currentText() == "found in the scan"


def test_each_scan_keeps_its_own(row, panel, viewer, scan, mask):
    pick(row, "mine")
    data, arguments = volume_to_layer(volume_of(1, "second"))
    second = viewer.add_image(data, **arguments)
    panel.scan.choose(second)
    assert row.picker.currentText() == "found in the scan"
    panel.scan.choose(scan)
    assert row.picker.currentText() == "mine"


# --- a file ----------------------------------------------------------------------------


@pytest.fixture
def file_of(tmp_path, monkeypatch):
    def write(mask, affine=AFFINE):
        cv.write_volume(cv.Volume(mask, affine), tmp_path / "mask.nii.gz", overwrite=True)
        monkeypatch.setattr(
            "qtpy.QtWidgets.QFileDialog.getOpenFileName",
            lambda *_: (str(tmp_path / "mask.nii.gz"), ""),
        )
        return tmp_path / "mask.nii.gz"

    return write


def own_mask():
    mask = np.zeros((16, 17, 18))
    mask[5:11, 6:9, 4:15] = 1
    return mask


def test_a_file_is_taken_in_the_scans_axes(qtbot, row, panel, network, file_of):
    path = file_of(own_mask())
    pick(row, "from a file…")
    assert row.picker.currentText() == "found in the scan"  # until it is read
    qtbot.waitUntil(lambda: row.picker.currentText() == "mask (file)", timeout=10_000)
    found = run(qtbot, panel)
    expected = volume_of().with_head(own_mask()).reoriented("SAR").head
    np.testing.assert_array_equal(found.regions.covered(), expected)
    record = found.record.values["scan"]
    assert (record["head"], record["head_source"]) == ("mask", str(path))
    assert f"with_head(cv.read_volume({str(path)!r}))" in found.record.script()


@pytest.mark.parametrize("wrong", ["shape", "place", "empty", "no image"])
def test_a_file_that_does_not_fit_says_why(qtbot, row, panel, file_of, wrong):
    moved = AFFINE + np.outer([1, 0, 0, 0], [0, 0, 0, 9])
    mask = own_mask()[1:] if wrong == "shape" else own_mask() * (wrong != "empty")
    path = file_of(mask, moved if wrong == "place" else AFFINE)
    if wrong == "no image":
        path.write_text("no image")
    pick(row, "from a file…")
    qtbot.waitUntil(lambda: "⚠" in panel.status.text(), timeout=10_000)
    said = {"shape": "voxels", "place": "grid", "empty": "empty", "no image": "mask.nii.gz"}[wrong]
    assert said in panel.status.text()
    assert "unexpected" not in panel.status.text()
    assert row.picker.currentText() == "found in the scan"


# --- a run -----------------------------------------------------------------------------


def test_a_run_takes_the_mask_and_says_so(qtbot, row, panel, network, mask):
    pick(row, "mine")
    found = run(qtbot, panel)
    np.testing.assert_array_equal(found.regions.covered(), mask.data > 0)
    assert found.record.values["scan"]["head"] == "mine"
    np.testing.assert_array_equal(panel.session.map.head, mask.data > 0)


def test_an_edited_mask_is_taken_as_it_is_now(qtbot, row, panel, network, mask):
    pick(row, "mine")
    run(qtbot, panel, "sensitivity")
    mask.data_setitem(np.nonzero(mask.data), 0)
    mask.data_setitem(tuple(np.array([[3, 4], [3, 3], [3, 3]])), 1)
    found = run(qtbot, panel, "sensitivity")
    assert (mask.data > 0).sum() == 2
    np.testing.assert_array_equal(found.regions.covered(), mask.data > 0)


def test_supervoxels_are_kept_while_the_mask_is_the_same(qtbot, row, panel, network, mask):
    pick(row, "mine")
    first = run(qtbot, panel, "sensitivity").regions.hierarchy
    assert run(qtbot, panel, "sensitivity").regions.hierarchy is first
    pick(row, "found in the scan")
    again = run(qtbot, panel, "sensitivity")
    assert again.regions.hierarchy is not first
    np.testing.assert_array_equal(again.regions.covered(), find_head(panel.session.scan.data))


def test_an_empty_mask_stops_the_run_with_a_reason(qtbot, row, panel, network, mask):
    pick(row, "mine")
    mask.data = np.zeros_like(mask.data)
    panel.method_form.choose_method("box")
    panel.run()
    settle(qtbot, panel)
    assert "The head mask 'mine' is empty" in panel.status.text()


def test_a_removed_mask_falls_back_and_says_so(qtbot, row, panel, network, viewer, scan, mask):
    pick(row, "mine")
    viewer.layers.remove(mask)
    assert row.picker.currentText() == "found in the scan"
    assert panel.status.text() == (
        "The head mask 'mine' was removed. The head of 'scan' is found in the scan again."
    )
    found = run(qtbot, panel)
    assert found.record.values["scan"]["head"] == HEAD_FOUND
    np.testing.assert_array_equal(found.regions.covered(), find_head(scan.data))


def test_a_mask_that_was_moved_away_falls_back_and_says_so(qtbot, row, panel, network, mask):
    pick(row, "mine")
    mask.translate = mask.translate + 20
    said = []
    panel.session.said.connect(said.append)
    found = run(qtbot, panel)
    assert found.record.values["scan"]["head"] == HEAD_FOUND
    assert any("is not on the scan's grid any more" in text for text in said)


def test_another_scan_in_the_same_layer_has_its_own_head(row, panel, scan, mask):
    pick(row, "mine")
    scan.data = volume_to_layer(volume_of(5))[0]
    panel.session.scan_replaced()
    assert row.picker.currentText() == "found in the scan"
    assert "was that of another scan" in panel.status.text()


def test_what_is_outside_is_hidden_for_the_head_as_it_is(qtbot, row, panel, network, mask):
    run(qtbot, panel, "grad-cam")
    panel.method_form.head_only.setChecked(True)
    overlay = panel.overlay
    assert overlay.data[~find_head(panel.session.scan.data)].max() == 0
    pick(row, "mine")
    qtbot.waitUntil(lambda: not np.any(overlay.data[mask.data == 0]), timeout=10_000)
    assert overlay.data.any()
    some = tuple(np.argwhere(mask.data > 0)[30:].T)
    mask.data_setitem(some, 0)
    qtbot.waitUntil(lambda: not np.any(overlay.data[mask.data == 0]), timeout=10_000)


def test_running_again_takes_the_maps_own_head(qtbot, row, panel, network, file_of, mask):
    file_of(own_mask())
    pick(row, "from a file…")
    qtbot.waitUntil(lambda: row.picker.currentText() == "mask (file)", timeout=10_000)
    of_file = map_of_run(qtbot, panel)
    pick(row, "mine")
    of_labels = map_of_run(qtbot, panel)
    pick(row, "found in the scan")
    of_found = map_of_run(qtbot, panel)
    for record, covered in (of_file, of_labels, of_found):
        before = panel.session.result
        panel.session.run_again(record)
        qtbot.waitUntil(lambda b=before: panel.session.result not in (b, None), timeout=30_000)
        settle(qtbot, panel)
        result = panel.session.result.attribution
        np.testing.assert_array_equal(result.regions.covered(), covered)
        assert result.record.values["scan"] == record["scan"]


def map_of_run(qtbot, panel):
    found = run(qtbot, panel)
    return dict(found.record.values), found.regions.covered()


def test_running_again_without_the_mask_says_what_to_do(qtbot, row, panel, network, viewer, mask):
    pick(row, "mine")
    record, _ = map_of_run(qtbot, panel)
    viewer.layers.remove(mask)
    with pytest.raises(MethodError, match="'mine' was a Labels layer; open it"):
        panel.session.run_again(record)


def test_running_again_when_the_file_is_gone_runs_nothing(qtbot, row, panel, network, file_of):
    path = file_of(own_mask())
    pick(row, "from a file…")
    qtbot.waitUntil(lambda: row.picker.currentText() == "mask (file)", timeout=10_000)
    record, _ = map_of_run(qtbot, panel)
    before = panel.session.result
    pick(row, "found in the scan")
    path.unlink()
    panel.session.run_again(record)
    qtbot.waitUntil(lambda: "⚠ There is no file" in panel.status.text(), timeout=10_000)
    settle(qtbot, panel)
    assert panel.session.result is before


# --- other panels ----------------------------------------------------------------------


def test_supervoxels_are_built_inside_it(qtbot, opened, row, mask):
    supervoxels = opened(SupervoxelPanel)
    pick(row, "mine")
    supervoxels.build()
    settle(qtbot, supervoxels)
    np.testing.assert_array_equal(supervoxels.hierarchy.leaves > 0, mask.data > 0)


def test_trust_tests_with_it(qtbot, opened, row, panel, network, mask):
    pick(row, "mine")
    run(qtbot, panel)
    trust = opened(TrustPanel)
    for name, box in trust.tests.items():
        box.setChecked(name == "edges")
    trust.test()
    settle(qtbot, trust)
    assert map_of(panel.overlay).trust is not None
    assert not any("head" in note for note in trust.report.notes)
    pick(row, "found in the scan")
    trust.test()
    settle(qtbot, trust)
    assert any("tested with the head found in the scan" in note for note in trust.report.notes)


# --- what is shown ---------------------------------------------------------------------


def test_shown_is_the_head_exactly_on_the_scan(qtbot, row, panel, scan, viewer):
    viewer.layers.selection.active = scan
    layer = show(qtbot, row)
    assert layer.name == "Head of scan"
    np.testing.assert_array_equal(layer.data > 0, find_head(scan.data))
    corner = np.array(scan.data.shape) - 1
    for voxel in ((0, 0, 0), corner, (3, 4, 5)):
        np.testing.assert_allclose(layer.data_to_world(voxel), scan.data_to_world(voxel))
    assert viewer.layers.selection.active == scan
    count = int(find_head(scan.data).sum())
    assert panel.status.text().startswith(f"Head: {count:,} voxels, ")
    assert f"{count:,} voxels" in row.picker.toolTip()
    row.show_button.setChecked(False)
    assert list(viewer.layers) == [scan]


def test_litres_are_those_of_the_voxels(qtbot, row, panel, scan):
    show(qtbot, row)
    litres = find_head(scan.data).sum() * 12 / 1e6  # 2 x 2 x 3 mm
    assert f"{litres:.3g} l, found in the scan." in panel.status.text()


def test_what_is_shown_follows_the_choice_and_edits(qtbot, row, mask):
    layer = show(qtbot, row)
    pick(row, "mine")
    qtbot.waitUntil(lambda: np.array_equal(layer.data > 0, mask.data > 0), timeout=10_000)
    mask.data_setitem(np.nonzero(mask.data), 0)
    mask.data_setitem(tuple(np.array([[1, 2], [1, 1], [1, 1]])), 1)
    qtbot.waitUntil(lambda: layer.data.sum() == 2, timeout=10_000)
    assert row.layer is layer


def test_it_is_no_head_to_choose_but_a_copy_of_it_is(qtbot, row, viewer):
    layer = show(qtbot, row)
    assert entries(row) == ["found in the scan", "from a file…"]
    data, state, kind = layer.as_layer_data_tuple()
    viewer._add_layer_from_data(data, {**state, "name": "corrected"}, kind)
    assert entries(row)[1] == "corrected"
    assert viewer.layers[-1].editable
    pick(row, "corrected")
    row.show_button.setChecked(False)
    assert row.picker.currentText() == "corrected"


def test_it_moves_with_the_scan(qtbot, row, panel, viewer):
    show(qtbot, row)
    smaller = cv.Volume(volume_of(1).data[2:-1], AFFINE, "second")
    data, arguments = volume_to_layer(smaller)
    second = viewer.add_image(data, **arguments)
    panel.scan.choose(second)
    qtbot.waitUntil(
        lambda: row.layer is not None and row.layer.name == "Head of second", timeout=10_000
    )
    np.testing.assert_array_equal(row.layer.data > 0, find_head(second.data))
    assert [layer.name for layer in viewer.layers] == ["scan", "second", "Head of second"]


def test_removed_by_hand_is_no_longer_ticked(qtbot, row, viewer, scan):
    viewer.layers.remove(show(qtbot, row))
    assert not row.show_button.isChecked()
    assert list(viewer.layers) == [scan]


def test_without_a_scan_there_is_nothing_to_show(panel):
    panel.network.head.show_button.setChecked(True)
    assert not panel.network.head.show_button.isChecked()


def test_a_scan_without_a_head_says_so(qtbot, panel, viewer):
    viewer.add_image(np.ones((5, 6, 7), np.float32), name="flat")
    panel.network.head.show_button.setChecked(True)
    qtbot.waitUntil(lambda: "one value everywhere" in panel.status.text(), timeout=10_000)
    assert [layer.name for layer in viewer.layers] == ["flat"]


def test_a_closed_panel_takes_its_layer_away(qtbot, row, panel, viewer, scan):
    show(qtbot, row)
    panel.closed()
    assert list(viewer.layers) == [scan]


@pytest.mark.window
@pytest.mark.skipif(
    os.environ.get("QT_QPA_PLATFORM") == "offscreen", reason="needs a display with OpenGL"
)
def test_in_a_window_it_is_seen_in_slices_and_in_3d(qtbot, make_napari_viewer):
    viewer = make_napari_viewer(show=True)
    viewer.window.resize(1280, 720)
    viewer.open_sample("napari-cnnvis", "control")
    _, panel = viewer.window.add_plugin_dock_widget("napari-cnnvis", "Explain CNN")
    row = panel.network.head
    for ndisplay in (2, 3):
        viewer.dims.ndisplay = ndisplay
        before = viewer.screenshot(flash=False)[..., :3].astype(int)
        show(qtbot, row)
        after = viewer.screenshot(flash=False)[..., :3].astype(int)
        row.show_button.setChecked(False)
        bluish = (after[..., 2] - after[..., 0] > 20).mean()
        assert bluish > 0.1
        assert (before[..., 2] - before[..., 0] > 20).mean() < 0.001
