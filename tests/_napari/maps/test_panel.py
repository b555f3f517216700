"""The panel Maps: shared limits, grid, difference, records, scripts, runs made again."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from qtpy.QtGui import QGuiApplication
from qtpy.QtWidgets import QDialog, QPushButton
from superqt.utils import signals_blocked

import napari_cnnvis as cv
from napari_cnnvis._napari.contributions import read_scans
from napari_cnnvis._napari.explain.panel import ExplainPanel
from napari_cnnvis._napari.layers.maps import map_arguments, map_of
from napari_cnnvis._napari.maps.comparison import grid_of
from napari_cnnvis._napari.maps.panel import MapsPanel
from napari_cnnvis.explain.attribution import Attribution
from napari_cnnvis.explain.how_to_read import how_to_read
from napari_cnnvis.explain.registry import methods
from napari_cnnvis.models.settings import Recipe

from ..waiting import settle

METHODS = {key: method.title for key, method in methods().items()}

RESNET = (
    "monai.networks.nets:resnet10(spatial_dims=3, n_input_channels=1, num_classes=2, "
    "widen_factor=0.125)"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    from monai.networks.nets import resnet10

    folder = tmp_path_factory.mktemp("maps")
    data = np.random.default_rng(0).random((20, 22, 18)).astype(np.float32)
    data[:4] = 0
    cv.write_volume(cv.Volume(data, np.diag([-2, 2, 2, 1.0])), folder / "scan.nii.gz")
    torch.manual_seed(1)
    net = resnet10(spatial_dims=3, n_input_channels=1, num_classes=2, widen_factor=0.125)
    torch.save(net.state_dict(), folder / "net.pt")
    return folder


@pytest.fixture
def viewer(viewer, folder):
    (data, arguments, _) = read_scans(str(folder / "scan.nii.gz"))[0]
    viewer.add_image(data, **arguments)
    return viewer


@pytest.fixture
def panel(qtbot, viewer, folder):
    """The panel Explain CNN with the network loaded."""
    panel = ExplainPanel(viewer)
    qtbot.addWidget(panel)
    panel.network.load(folder / "net.pt", Recipe(RESNET, ("NC", "AD")))
    settle(qtbot, panel)
    assert panel.ready
    yield panel
    panel.jobs.cancel()
    settle(qtbot, panel)


@pytest.fixture
def maps(qtbot, viewer):
    maps = MapsPanel(viewer)
    qtbot.addWidget(maps)
    maps.show()
    return maps


def run(qtbot, panel, method, layer=None, relu=True):
    panel.method_form.choose_method(method)
    with signals_blocked(panel.method_form.field("relu")):  # the last map stays as it is
        panel.method_form.field("relu").setChecked(relu)
    if layer:
        panel.method_form.layer.choose(layer)
    panel.run()
    settle(qtbot, panel)
    assert "⚠" not in panel.status.text()
    return next(layer for layer in reversed(panel._viewer.layers) if map_of(layer) is not None)


def test_without_maps_it_says_where_they_come_from(maps):
    assert "No maps yet" in maps.about.text()
    assert not maps.copy.isEnabled()
    assert not maps.share.isEnabled()


def test_maps_are_listed_with_their_records(qtbot, panel, maps):
    overlay = run(qtbot, panel, "layercam", "layer2.0")
    assert maps.ticked == [overlay]
    assert maps.chosen is overlay
    about = maps.about.text()
    for text in (
        "LayerCAM",
        "layer2.0",
        "resnet10",
        "scan",
        "AD" if "AD" in overlay.name else "NC",
    ):
        assert text in about
    panel._viewer.layers.remove(overlay)
    assert maps.ticked == []


def test_shared_limits_follow_each_other(qtbot, panel, maps):
    unsigned = run(qtbot, panel, "grad-cam")
    signed = run(qtbot, panel, "hirescam", relu=False)
    maps.share.click()
    high = unsigned.contrast_limits[1]
    assert signed.contrast_limits == [-high, high]
    assert unsigned.contrast_limits == [0, high]
    signed.contrast_limits = (-high / 2, high / 2)
    assert unsigned.contrast_limits == [0, high / 2]
    unsigned.contrast_limits = (0, high / 4)
    assert signed.contrast_limits == [-high / 4, high / 4]
    maps.share.click()
    unsigned.contrast_limits = (0, high)
    assert signed.contrast_limits == [-high / 4, high / 4]


def test_a_map_that_is_deleted_ends_the_sharing(qtbot, panel, maps):
    first = run(qtbot, panel, "grad-cam")
    second = run(qtbot, panel, "hirescam")
    maps.share.click()
    panel._viewer.layers.remove(second)
    assert not maps.share.isChecked()
    first.contrast_limits = (0, 1e-9)


def test_the_grid_shows_each_map_on_the_scan(qtbot, panel, maps, viewer):
    scan = viewer.layers[0]
    first = run(qtbot, panel, "grad-cam")
    second = run(qtbot, panel, "hirescam")
    maps.grid.click()
    assert grid_of(viewer).enabled
    assert grid_of(viewer).stride == 2
    pairs = list(viewer.layers)
    assert len(pairs) == 4
    assert {pairs[1], pairs[3]} == {first, second}
    for below in (pairs[0], pairs[2]):
        assert below.data is scan.data
        np.testing.assert_allclose(below.data_to_world((1, 2, 3)), scan.data_to_world((1, 2, 3)))
    assert panel.scan.count() == 1  # copies are no scans of their own
    maps.grid.click()
    assert not grid_of(viewer).enabled
    assert set(viewer.layers) == {scan, first, second}


def test_the_difference_is_exact(qtbot, panel, maps, viewer):
    a = run(qtbot, panel, "grad-cam", "layer2.0", relu=False)
    b = run(qtbot, panel, "hirescam", "layer2.0", relu=False)
    maps.subtract.click()
    found = viewer.layers[-1]
    np.testing.assert_array_equal(found.data, b.data - a.data)
    assert map_of(found).provenance["method"] == "Difference"
    for corner in ((0, 0, 0), (3, 2, 1)):
        np.testing.assert_allclose(found.data_to_world(corner), a.data_to_world(corner))
    maps.list.setCurrentRow(0)
    assert not maps.copy.isEnabled()
    assert not maps.again.isEnabled()


@pytest.mark.parametrize("method", ["grad-cam", "sensitivity"])
def test_the_copied_script_makes_the_same_map(qtbot, panel, maps, tmp_path, method):
    panel.method_form.field("finest").setValue(8)
    overlay = run(qtbot, panel, method, relu=False)
    maps.copy.click()
    script = QGuiApplication.clipboard().text()
    assert "# TODO" not in script
    exec(script.replace("map.nii.gz", str(tmp_path / "map.nii.gz")), {})
    found = cv.read_volume(tmp_path / "map.nii.gz").reoriented("SAR")
    scale = np.abs(overlay.data).max()
    assert scale > 0
    np.testing.assert_allclose(found.data, overlay.data, atol=1e-5 * scale)


def test_a_map_can_be_run_again_after_all_was_changed(qtbot, panel, maps, viewer):
    overlay = run(qtbot, panel, "layercam", "layer1.0", relu=False)
    expected, name = overlay.data.copy(), overlay.name
    panel.network.unload.click()
    panel.method_form.choose_method("box")
    maps.again.click()
    qtbot.waitUntil(
        lambda: panel.overlay is not None and panel.overlay is not overlay, timeout=60_000
    )
    settle(qtbot, panel)
    again = panel.overlay
    assert again.name.startswith(name)
    np.testing.assert_allclose(again.data, expected, atol=1e-7)


def test_without_its_scan_it_is_not_run(qtbot, panel, maps, viewer):
    run(qtbot, panel, "grad-cam")
    viewer.layers.remove("scan")
    maps.again.click()
    assert "Open the map's scan 'scan' first" in maps.status.text()


def open_saved_map(viewer, folder, tmp_path, net="net.pt"):
    model = cv.load_model(folder / net, arch=RESNET, device="cpu")
    cv.grad_cam(model, cv.read_volume(folder / "scan.nii.gz"), 0).save(tmp_path / "m.nii.gz")
    (data, arguments, _) = read_scans(str(tmp_path / "m.nii.gz"))[0]
    return viewer.add_image(data, **arguments)


def test_without_another_panel_it_is_run_as_well(qtbot, viewer, maps, folder, tmp_path):
    saved = open_saved_map(viewer, folder, tmp_path)
    maps.again.click()
    assert maps.bar.isVisible()
    assert maps.cancel_button.isVisible()
    session = maps.session
    qtbot.waitUntil(lambda: session.result is not None and not session.jobs.busy, timeout=60_000)
    assert session.map.layer is not saved
    assert session.map.layer in viewer.layers
    np.testing.assert_allclose(session.map.layer.data, saved.data, atol=1e-6)
    assert "Grad-CAM" in maps.status.text()
    assert not maps.bar.isVisible()
    assert not maps.network.isVisible()


def test_a_network_that_is_not_there_can_be_chosen(qtbot, viewer, maps, folder, tmp_path):
    copied = folder / "moved.pt"
    copied.write_bytes((folder / "net.pt").read_bytes())
    saved = open_saved_map(viewer, folder, tmp_path, "moved.pt")
    copied.unlink()
    maps.again.click()
    assert "was not loaded from a file that is still there" in maps.status.text()
    assert maps.network.isVisible()
    maps.session.load(folder / "net.pt", Recipe(RESNET))
    settle(qtbot, maps.session)
    assert not maps.network.isVisible()
    maps.again.click()
    settle(qtbot, maps.session)
    np.testing.assert_allclose(maps.session.map.layer.data, saved.data, atol=1e-6)


def test_a_saved_map_comes_back_with_its_looks(qtbot, panel, maps, viewer, tmp_path):
    overlay = run(qtbot, panel, "grad-cam")
    request = panel.session.result.attribution
    request.save(tmp_path / "map.nii.gz")
    (data, arguments, _) = read_scans(str(tmp_path / "map.nii.gz"))[0]
    found = viewer.add_image(data, **arguments)
    np.testing.assert_array_equal(found.data, overlay.data)
    assert found.colormap.name == overlay.colormap.name
    assert found.contrast_limits == overlay.contrast_limits
    assert map_of(found) is not None
    np.testing.assert_allclose(found.data_to_world((1, 2, 3)), overlay.data_to_world((1, 2, 3)))
    assert found in maps.ticked


def test_level_weights_redraw_without_a_run(qtbot, panel):
    panel.method_form.field("finest").setValue(60)
    overlay = run(qtbot, panel, "sensitivity")
    sliders = panel.method_form.field("level_weights").sliders
    assert len(sliders) > 1
    before = overlay.data.copy()
    for slider in sliders[1:]:
        slider.setValue(0)
    assert not panel.jobs.busy
    assert not np.array_equal(overlay.data, before)
    weights = [1.0] + [0.0] * (len(sliders) - 1)
    assert map_of(overlay).provenance["level_weights"] == weights
    expected = cv.remap(
        panel.session.result.outcome, map_of(overlay).provenance["class"], level_weights=weights
    )
    np.testing.assert_array_equal(overlay.data, expected.data)


def test_overlays_know_their_cells(qtbot, panel):
    overlay = run(qtbot, panel, "grad-cam", "layer2.0")
    cells = map_of(overlay).cells
    assert set(np.unique(cells.nearest())) == set(np.unique(cells.values))


def test_how_to_read_it(qtbot, panel, maps):
    run(qtbot, panel, "grad-cam")
    maps.reading.click()
    window = maps.findChild(QDialog)
    assert "Grad-CAM" in window.windowTitle()
    window.close()


@pytest.mark.parametrize("method", METHODS.values())
def test_every_method_has_its_reading(method):
    assert len(how_to_read(method)) > 2
    assert len(how_to_read(method)) >= 3
    assert all(text.endswith(".") for text in how_to_read(method))


def test_every_button_has_a_tooltip(maps):
    assert all(button.toolTip() for button in maps.findChildren(QPushButton))


@pytest.fixture
def changed_map(folder, tmp_path):
    """A saved map whose record names code as its network, and that leaves a canary if it is run."""
    model = cv.load_model(folder / "net.pt", "cpu", RESNET, ["NC", "AD"])
    cv.grad_cam(model, cv.read_volume(folder / "scan.nii.gz"), "AD").save(tmp_path / "map.nii.gz")
    record = json.loads((tmp_path / "map.json").read_text())
    canary = tmp_path / "canary"
    arch = f"os:system('touch {canary}')"
    record["model"] |= {"weights_sha256": "0" * 16, "arch": arch}
    (tmp_path / "map.json").write_text(json.dumps(record))
    yield tmp_path / "map.nii.gz"
    assert not canary.exists()


def test_running_again_runs_no_code_of_a_record(qtbot, viewer, panel, maps, changed_map):
    data, arguments, _ = read_scans(str(changed_map))[0]
    overlay = viewer.add_image(data, **arguments)
    maps.list.setCurrentRow(0)
    assert "Architecture" in maps.about.text()
    assert "os:system" in maps.about.text()
    before = panel.network.loaded
    maps.again.click()
    settle(qtbot, panel)
    assert "named by a file, would run Python code" in panel.status.text()
    panel.network.settings.apply.click()  # it stands in the field now, but nobody typed it
    settle(qtbot, panel)
    assert "named by a file, would run Python code" in panel.status.text()
    assert panel.network.loaded is before
    maps.copy.click()
    assert 'arch="os:system' in QGuiApplication.clipboard().text()
    assert overlay in viewer.layers


def test_testing_a_map_runs_no_code_of_its_record(viewer, changed_map):
    from napari_cnnvis._napari.trust.tested_map import subject_of
    from napari_cnnvis.errors import CheckpointError

    data, arguments, _ = read_scans(str(changed_map))[0]
    overlay = viewer.add_image(data, **arguments)
    subject = subject_of(overlay, viewer.layers, None)
    with pytest.raises(CheckpointError, match="named by a file, would run"):
        subject.model("cpu")


def test_markup_in_a_record_is_shown_as_it_is(viewer, maps, changed_map):
    made = Attribution.load(changed_map)
    record = made.record.with_values(class_name="<img src='file:///x.png'>")
    made = replace(made, record=record)
    viewer.add_image(made.data, **map_arguments({}, made))
    maps.list.setCurrentRow(0)
    assert "&lt;img" in maps.about.text()
    assert "<img" not in maps.about.text()
