"""Explain CNN on scans that other readers opened: a map of each, exactly on its scan."""

import numpy as np
import pytest
import torch
from napari.layers import Image

import napari_cnnvis as cv
from napari_cnnvis._napari.explain.panel import ExplainPanel
from napari_cnnvis._napari.layers.maps import map_of
from napari_cnnvis._napari.layers.one_volume import to_world
from napari_cnnvis.models.model import Model
from napari_cnnvis.models.networks.vox import VoxResNetGAP

DATA = np.random.default_rng(0).random((16, 18, 20), dtype=np.float32)
SCANS = {
    "c z y x": lambda **k: Image(DATA[None], **k),
    "t c z y x": lambda **k: Image(DATA[None, None], **k),
    "pyramid": lambda **k: Image([DATA, DATA[::2, ::2, ::2]], multiscale=True, **k),
    "grey as colours": lambda **k: Image(np.stack([DATA] * 3, -1), rgb=True, **k),
}


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return Model(VoxResNetGAP(), ["control", "atrophy"], cv.InputSpec(), "cpu")


@pytest.fixture(scope="module")
def expected(model):
    return cv.grad_cam(model, cv.Volume(DATA, np.diag([1.5, 2, 2.5, 1])), target=0).data


@pytest.mark.parametrize("kind", SCANS)
def test_a_map_of_a_scan_of_another_reader_lies_on_it(qtbot, opened, model, expected, kind):
    panel = opened(ExplainPanel)
    panel.use_model(model)
    layer = SCANS[kind](name="scan", units="cm")
    first = (1.0,) * (layer.ndim - 3)
    layer.scale, layer.translate = (*first, 0.15, 0.2, 0.25), (*first, 3, 4, 5)
    panel.viewer.add_layer(layer)
    qtbot.waitUntil(lambda: panel.ready and not panel.jobs.busy, timeout=60_000)
    panel.method_form.method.setCurrentIndex(panel.method_form.method.findData("grad-cam"))
    panel.run()
    qtbot.waitUntil(lambda: not panel.jobs.busy, timeout=60_000)
    (overlay,) = [one for one in panel.viewer.layers if map_of(one) is not None]
    np.testing.assert_allclose(to_world(overlay), to_world(layer))
    np.testing.assert_allclose(map_of(overlay).values, expected, atol=1e-6)
    assert map_of(overlay).scan["name"] == "scan"


def test_a_layer_that_is_not_one_volume_is_talked_about(qtbot, opened, model):
    panel = opened(ExplainPanel)
    panel.viewer.add_image(np.stack([DATA, DATA]), name="two channels")
    text = panel.network.recognised.text()
    assert "'two channels' has 4 dimensions" in text and "Split Stack" in text
    panel.viewer.add_image(DATA, name="scan")
    assert "Split Stack" not in panel.network.recognised.text()
