"""What is at work in a viewer: one session, shared by its panels, gone with the last one."""

import gc
import weakref

import numpy as np
import pytest
import torch
from napari.components import ViewerModel
from torch import nn

import napari_cnnvis as cv
from napari_cnnvis._napari.explain.panel import ExplainPanel
from napari_cnnvis._napari.maps.panel import MapsPanel
from napari_cnnvis._napari.network.checkpoint_offer import CheckpointOffer
from napari_cnnvis._napari.session.session import Session
from napari_cnnvis._napari.session.viewers import session_of

from ..waiting import settle


@pytest.fixture
def viewer(viewer):
    data = np.random.default_rng(0).random((12, 13, 14)).astype(np.float32)
    viewer.add_image(data, name="scan")
    return viewer


def small_net():
    torch.manual_seed(0)
    net = nn.Sequential(
        *(nn.Conv3d(1, 4, 3, padding=1), nn.ReLU()),
        *(nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(4, 2)),
    )
    return cv.Model(net, ["control", "patient"], device="cpu")


def test_each_viewer_has_one(qtbot, viewer):
    one, other = MapsPanel(viewer), ExplainPanel(viewer)
    elsewhere = MapsPanel(ViewerModel())
    for panel in (one, other, elsewhere):
        qtbot.addWidget(panel)
    assert one.session is other.session is session_of(viewer)
    assert elsewhere.session is not one.session


def test_another_panel_finds_what_is_at_work(qtbot, viewer):
    maps, first = MapsPanel(viewer), ExplainPanel(viewer)
    qtbot.addWidget(maps)
    model = small_net()
    first.use_model(model)
    settle(qtbot, maps.session)
    first.method_form.choose_method("hirescam")
    first.close()
    first.closed()
    first.deleteLater()
    qtbot.wait(10)
    assert maps.session.model is model
    assert maps.session.asked.request().method == "hirescam"
    second = ExplainPanel(viewer)
    qtbot.addWidget(second)
    settle(qtbot, maps.session)
    assert second.ready
    assert second.method_form.request().method == "hirescam"
    assert second.run_button.isEnabled()
    assert "control" in second.network.recognised.text()


def test_with_the_last_panel_the_network_goes(qtbot, viewer):
    panel = ExplainPanel(viewer)
    model = small_net()
    panel.use_model(model)
    settle(qtbot, panel.session)
    alive = weakref.ref(model)
    del model
    session = weakref.ref(panel.session)
    panel.deleteLater()
    qtbot.wait(10)
    assert session_of(viewer) is not session()
    del panel
    qtbot.waitUntil(lambda: gc.collect() >= 0 and alive() is None, timeout=20_000)


def test_a_scan_that_is_gone_is_no_input(qtbot, viewer):
    session = Session(viewer)
    session.choose(viewer.layers[0])
    assert session.has_input
    viewer.layers.clear()
    assert not session.has_input


def test_what_is_chosen_elsewhere_is_shown_in_the_panel(qtbot, viewer):
    panel = ExplainPanel(viewer)
    qtbot.addWidget(panel)
    other = viewer.add_image(np.ones((5, 6, 7), np.float32), name="other")
    panel.session.choose(other)
    assert panel.scan.layer is other
    panel.session.choose(viewer.layers["scan"])
    assert panel.scan.layer is viewer.layers["scan"]


def test_an_offered_checkpoint_is_loaded_and_said(qtbot, viewer, tmp_path):
    session = Session(viewer)
    offer = CheckpointOffer(session)
    qtbot.addWidget(offer)
    said = []
    offer.said.connect(said.append)
    offer.offer()
    assert offer.isVisible()
    (tmp_path / "broken.pt").write_bytes(b"broken")
    offer.chosen.emit([str(tmp_path / "broken.pt")])
    settle(qtbot, session)
    assert offer.isVisible()
    assert said[0] == "Loading broken.pt …"
    assert said[1].startswith("⚠")
    cv.save_model(small_net_to_save(), tmp_path / "net.safetensors", ["a", "b"], cv.InputSpec())
    offer.chosen.emit([str(tmp_path / "net.safetensors")])
    settle(qtbot, session)
    assert said[-1] == "net.safetensors is loaded."
    assert not offer.isVisible()
    assert session.model.class_names == ("a", "b")


def small_net_to_save():
    from napari_cnnvis.models.networks.vox import VoxResNetGAP

    return VoxResNetGAP()
