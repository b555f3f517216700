import json
import sys

import numpy as np
import pytest
import torch
from qtpy.QtWidgets import QDialog
from torch import nn

import napari_cnnvis as cv
from napari_cnnvis._napari.explain.panel import ExplainPanel
from napari_cnnvis._napari.layers.maps import map_of
from napari_cnnvis._napari.layers.scans import scan_of, volume_to_layer
from napari_cnnvis._napari.widgets.layer_picker import is_scan
from napari_cnnvis.models.networks.vox import VoxResNetGAP
from napari_cnnvis.models.settings import Recipe, file_hash, remember, remembered

from ..waiting import settle

NET_FILE = """
from torch import nn
def make(width=4, n_out=2):
    return nn.Sequential(nn.Conv3d(1, width, 3), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten(),
                         nn.Linear(width, n_out))
"""


@pytest.fixture
def panel(opened, viewer):
    panel = opened(ExplainPanel)
    data = np.random.default_rng(0).random((20, 21, 22)).astype(np.float32)
    data[:4] = 0
    shown, arguments = volume_to_layer(cv.Volume(data, np.diag([2, 2, 2, 1.0]), "scan"))
    viewer.add_image(shown, **arguments)
    panel.show()
    return panel


@pytest.fixture
def box(panel):
    return panel.network


def small(channels=1, n_out=2, *end):
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv3d(channels, 4, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten()),
        *(nn.Linear(4, n_out), *end),
    )


def load(qtbot, panel, path):
    panel.load_model(path)
    settle(qtbot, panel)


@pytest.fixture
def file_of_a_user(tmp_path):
    (tmp_path / "nets.py").write_text(NET_FILE)
    torch.save(small().state_dict(), tmp_path / "net.pt")
    return tmp_path / "net.pt"


def apply(qtbot, panel, arch="", trust=False):
    panel.network.settings.arch.setText(arch)
    panel.network.settings.trust.setChecked(trust)
    panel.network.settings.apply.click()
    settle(qtbot, panel)


def test_an_unknown_network_opens_the_settings_and_the_architecture_mends_it(
    qtbot, panel, box, file_of_a_user
):
    load(qtbot, panel, file_of_a_user)
    assert box.model is None
    assert panel.status.text().startswith("⚠")
    assert box.settings.isVisible()
    nets = f"{file_of_a_user.parent / 'nets.py'}:make(width=4)"
    apply(qtbot, panel, nets)
    assert "would run Python code" in panel.status.text()
    apply(qtbot, panel, nets, trust=True)
    assert panel.ready
    assert "make" in box.recognised.text()


def test_a_network_that_looks_like_a_known_one_is_suggested(qtbot, panel, box, tmp_path):
    from monai.networks.nets import resnet10

    net = resnet10(spatial_dims=3, n_input_channels=1, num_classes=2)
    torch.save(net.state_dict(), tmp_path / "net.pt")
    load(qtbot, panel, tmp_path / "net.pt")
    assert box.model is None
    assert box.settings.arch.text().startswith("monai.networks.nets:resnet10(spatial_dims=3")
    box.settings.apply.click()
    settle(qtbot, panel)
    assert panel.ready


@pytest.fixture
def importable(tmp_path, monkeypatch):
    """A module that leaves a canary when it is imported, and weights of its class."""
    (tmp_path / "canary_cnnvis_nets.py").write_text(
        f"""import os
os.makedirs({str(tmp_path / "canary")!r}, exist_ok=True)
from torch import nn
class Net(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Conv3d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten(),
                         nn.Linear(4, 2))
"""
    )
    torch.save(small().state_dict(), tmp_path / "net.pt")
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    sys.modules.pop("canary_cnnvis_nets", None)


def test_only_what_is_typed_counts_as_the_users_own(qtbot, panel, box, importable):
    """A class of a module may be typed; the same text from a file is shown, and not run."""
    arch, canary = "canary_cnnvis_nets:Net()", importable / "canary"
    header = json.dumps({"architecture": arch})
    (importable / "net.json").write_text(header)
    load(qtbot, panel, importable / "net.pt")
    assert box.model is None
    assert "named by a file, would run Python code" in panel.status.text()
    assert box.settings.arch.text() == arch  # for the user to look at
    box.settings.apply.click()  # without a word of his own
    settle(qtbot, panel)
    assert box.model is None
    assert not canary.exists()
    box.settings.arch.clear()
    qtbot.keyClicks(box.settings.arch, arch)
    box.settings.apply.click()
    settle(qtbot, panel)
    assert panel.ready
    assert canary.exists()


def test_what_was_remembered_is_not_typed(qtbot, panel, box, importable):
    arch, canary = "canary_cnnvis_nets:Net()", importable / "canary"
    remember(file_hash(importable / "net.pt"), Recipe(arch, arch_by_user=True))
    for _ in range(2):  # loaded, and applied as it is filled in
        load(qtbot, panel, importable / "net.pt")
        assert box.model is None
        assert box.settings.arch.text() == arch
        box.settings.apply.click()
        settle(qtbot, panel)
        assert box.model is None
        assert not canary.exists()
    apply(qtbot, panel, arch, trust=True)
    assert panel.ready


def test_another_file_takes_the_place_of_the_model_at_once(qtbot, panel, box, tmp_path):
    torch.save(VoxResNetGAP().state_dict(), tmp_path / "net.pt")
    load(qtbot, panel, tmp_path / "net.pt")
    (tmp_path / "broken.pt").write_bytes(b"broken")
    load(qtbot, panel, tmp_path / "broken.pt")
    assert box.model is None
    assert box.picker.label.text() == "broken.pt"
    assert not panel.run_button.isEnabled()


def test_what_was_said_is_remembered_but_not_the_trust(qtbot, panel, box, file_of_a_user):
    load(qtbot, panel, file_of_a_user)
    nets = f"{file_of_a_user.parent / 'nets.py'}:make(width=4)"
    box.settings.classes.setText("healthy, ill")
    apply(qtbot, panel, nets, trust=True)
    assert remembered(file_hash(file_of_a_user)).class_names == ("healthy", "ill")
    box.unload.click()
    load(qtbot, panel, file_of_a_user)
    assert "would run Python code" in panel.status.text()
    assert box.model is None


def test_class_names_are_remembered(qtbot, panel, box, tmp_path):
    torch.save(VoxResNetGAP().state_dict(), tmp_path / "net.pt")
    load(qtbot, panel, tmp_path / "net.pt")
    assert box.settings.classes.text() == "class 0, class 1"
    box.settings.classes.setText("NC, AD")
    apply(qtbot, panel)
    assert "AD" in box.recognised.text()
    box.unload.click()
    load(qtbot, panel, tmp_path / "net.pt")
    assert box.model.class_names == ("NC", "AD")


def test_wrong_number_of_classes_is_said_and_the_model_stays(qtbot, panel, box, tmp_path):
    torch.save(VoxResNetGAP().state_dict(), tmp_path / "net.pt")
    load(qtbot, panel, tmp_path / "net.pt")
    box.settings.classes.setText("a, b, c")
    apply(qtbot, panel)
    assert "3 class names were given for 2 outputs" in panel.status.text()
    assert panel.run_button.isEnabled()


def test_unload_frees_the_network(qtbot, panel, box, tmp_path):
    import gc
    import weakref

    torch.save(VoxResNetGAP().state_dict(), tmp_path / "net.pt")
    load(qtbot, panel, tmp_path / "net.pt")
    weights = weakref.ref(next(box.model.module.parameters()))
    box.unload.click()
    qtbot.waitUntil(lambda: gc.collect() >= 0 and weights() is None, timeout=20_000)
    assert not panel.run_button.isEnabled()
    assert "Choose a checkpoint" in box.recognised.text()
    assert not box.report.isEnabled()


def test_the_offered_size_is_taken_with_one_click(qtbot, panel, box, tmp_path):
    (tmp_path / "flat.py").write_text(
        "from torch import nn\n"
        "def make():\n"
        "    return nn.Sequential(nn.Conv3d(1, 2, 3, stride=4), nn.ReLU(), nn.Flatten(),\n"
        "                         nn.Linear(2 * 8**3, 2))\n"
    )
    flat = nn.Sequential(nn.Conv3d(1, 2, 3, stride=4), nn.ReLU(), nn.Flatten(), nn.Linear(1024, 2))
    torch.save(flat.state_dict(), tmp_path / "net.pt")
    load(qtbot, panel, tmp_path / "net.pt")
    apply(qtbot, panel, f"{tmp_path / 'flat.py'}:make", trust=True)
    assert box.model.input_shape == (32, 32, 32)
    assert "cannot take scans of any size" in box.recognised.text()
    box.settings.input.shape.set((48, 48, 48))
    apply(qtbot, panel, f"{tmp_path / 'flat.py'}:make", trust=True)
    assert "cannot take an input of 48 x 48 x 48 voxels" in panel.status.text()
    assert box.settings.fix.isVisible()
    box.settings.fix.click()
    settle(qtbot, panel)
    assert panel.ready
    assert box.model.input_shape == (32, 32, 32)
    assert not box.settings.fix.isVisible()


def test_several_channels_ask_for_one_layer_each(qtbot, panel, box):
    panel.use_model(cv.Model(small(2), input_spec=cv.InputSpec(channels=2), device="cpu"))
    settle(qtbot, panel)
    assert len(box.channels.pickers) == 1
    assert panel.ready  # the only scan is taken twice
    scan = panel.viewer.layers[0]
    flair = panel.viewer.add_image(
        scan.data * 0.5,
        name="flair",
        scale=scan.scale,
        translate=scan.translate,
        metadata=scan.metadata,
    )
    box.channels.pickers[0].choose(flair)
    settle(qtbot, panel)
    panel.method_form.choose_method("grad-cam")
    panel.run()
    settle(qtbot, panel)
    overlay = panel.viewer.layers[-1]
    assert map_of(overlay).scan["other_channels"][0]["name"] == "flair"
    panel.use_model(cv.Model(small(), device="cpu"))
    assert box.channels.pickers == []
    settle(qtbot, panel)


def test_channels_on_another_grid_are_a_plain_error(qtbot, panel, box):
    panel.viewer.add_image(np.ones((5, 5, 5)), name="small")
    panel.use_model(cv.Model(small(2), input_spec=cv.InputSpec(channels=2), device="cpu"))
    settle(qtbot, panel)
    box.scan.choose(panel.viewer.layers["scan"])
    settle(qtbot, panel)
    box.channels.pickers[0].choose(panel.viewer.layers["small"])
    settle(qtbot, panel)
    assert "is not on the grid of" in panel.status.text()


def test_a_regression_has_values_and_no_choice_of_scores(qtbot, panel, box):
    model = cv.Model(small(1, 1), ["age"], output="regression", device="cpu")
    panel.use_model(model)
    settle(qtbot, panel)
    form = panel.method_form
    assert [form.target.itemText(i) for i in range(2)] == ["lower age", "higher age"]
    assert "age" in box.recognised.text()
    assert "%" not in box.recognised.text()
    assert not form.field("score").isVisibleTo(form)
    form.choose_class(1)
    panel.run()
    settle(qtbot, panel)
    assert map_of(panel.viewer.layers[-1]).provenance["score"] == "value"


def test_the_models_input_is_shown_and_follows_the_settings(qtbot, panel, box):
    panel.use_model(cv.Model(small(), input_spec=cv.InputSpec(shape=(24, 24, 24)), device="cpu"))
    settle(qtbot, panel)
    before = list(panel.viewer.layers)
    box.settings.preview.setChecked(True)
    qtbot.waitUntil(lambda: len(panel.viewer.layers) == 2, timeout=20_000)
    shown = panel.viewer.layers[-1]
    assert not is_scan(shown)
    assert shown.data.shape == (24, 24, 24)
    assert shown.data.max() == 1
    middle = (np.array(shown.data.shape) - 1) / 2
    scan = before[0]
    np.testing.assert_allclose(
        shown.data_to_world(middle),
        scan.data_to_world((np.array(scan.data.shape) - 1) / 2),
        atol=2.1,
    )
    box.settings.input.size.setCurrentIndex(box.settings.input.size.findData("resize"))
    box.settings.input.shape.setText("10")
    box.settings.input.changed.emit()
    qtbot.waitUntil(lambda: shown.data.shape == (10, 10, 10), timeout=20_000)
    assert box.scan.count() == 1  # a preview is no scan
    box.settings.preview.setChecked(False)
    assert list(panel.viewer.layers) == before


def test_report_opens_in_a_window(qtbot, panel, box, tmp_path):
    torch.save(VoxResNetGAP().state_dict(), tmp_path / "net.pt")
    load(qtbot, panel, tmp_path / "net.pt")
    box.report.click()
    window = box.findChild(QDialog)
    assert window.isVisible()
    assert window.windowTitle() == "Report: net.pt"
    window.close()


def test_a_net_that_takes_volumes_as_stored_sees_the_file_not_the_display(qtbot, panel, tmp_path):
    """The viewer shows axes SAR; a network without an orientation was trained on stored arrays."""
    torch.manual_seed(1)
    net = nn.Sequential(nn.Conv3d(1, 3, 3, stride=3), nn.Flatten(), nn.Linear(3 * 6 * 7 * 7, 2))
    model = cv.Model(net, input_spec=cv.InputSpec(shape=(20, 21, 22)), device="cpu")
    data = np.random.default_rng(3).random((20, 21, 22)).astype(np.float32)
    volume = cv.Volume(data, np.diag([-2, 2, 2, 1.0]), "stored LAS")
    shown, arguments = volume_to_layer(volume)
    layer = panel.viewer.add_image(shown, **arguments)
    panel.network.scan.choose(layer)
    panel.use_model(model)
    settle(qtbot, panel)
    np.testing.assert_allclose(panel.session.predictions, model.predict(volume), rtol=1e-5)
    panel.method_form.layer.choose("0")
    panel.method_form.choose_class(1)
    panel.run()
    settle(qtbot, panel)
    expected = cv.grad_cam(model, volume, 1, layer="0")
    found = cv.Volume(panel.viewer.layers[-1].data, scan_of(layer).affine)
    np.testing.assert_allclose(found.reoriented("LAS").data, expected.data, atol=1e-6)


def test_gradient_methods_change_without_another_run(qtbot, panel):
    panel.use_model(cv.Model(small(), device="cpu"))
    settle(qtbot, panel)
    form = panel.method_form
    form.choose_method("grad-cam")
    panel.run()
    settle(qtbot, panel)
    overlay = panel.viewer.layers[-1]
    for method, name in [
        ("layercam", "LayerCAM"),
        ("hirescam", "HiResCAM"),
        ("grad-cam++", "Grad-CAM++"),
    ]:
        form.choose_method(method)
        assert not panel.jobs.busy
        assert overlay.name.startswith(name)
    form.field("relu").click()
    assert map_of(overlay).provenance["relu"] is False


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", json.dumps({"a": 1}).encode()])
def test_a_broken_file_leaves_the_panel_usable(qtbot, panel, box, tmp_path, content, plain):
    (tmp_path / "broken.pt").write_bytes(content)
    load(qtbot, panel, tmp_path / "broken.pt")
    assert panel.status.text().startswith("⚠")
    torch.save(VoxResNetGAP().state_dict(), tmp_path / "net.pt")
    load(qtbot, panel, tmp_path / "net.pt")
    assert panel.ready
    assert panel.run_button.isEnabled()
