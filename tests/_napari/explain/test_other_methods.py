"""A method that another package adds has its form, is run and is shown as the others are."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import napari_cnnvis as cv
from napari_cnnvis._napari.explain.panel import ExplainPanel
from napari_cnnvis._napari.layers.maps import map_of
from napari_cnnvis.explain import registry
from napari_cnnvis.explain.record import Record

from ..waiting import settle


@pytest.fixture
def installed(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "other_package"))
    registry._methods.cache_clear()
    yield "gradient-x-input"
    registry._methods.cache_clear()
    sys.modules.pop("gradient_times_input", None)


def test_its_parameters_are_fields_and_its_map_is_shown(qtbot, installed, viewer):
    panel = ExplainPanel(viewer)
    qtbot.addWidget(panel)
    data = np.random.default_rng(0).random((9, 10, 8)).astype(np.float32)
    viewer.add_image(data, name="scan")
    torch.manual_seed(0)
    layers = nn.Conv3d(1, 2, 3), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(2, 2)
    panel.use_model(cv.Model(nn.Sequential(*layers), ["NC", "AD"], cv.InputSpec(), "cpu"))
    settle(qtbot, panel)
    form = panel.method_form
    form.choose_method(installed)
    shown = {name: form.form.isRowVisible(form.field(name)) for name in ("power", "positive")}
    assert shown == {"power": True, "positive": True}
    assert not form.form.isRowVisible(form.layer)
    form.field("power").setValue(0.5)
    form.field("positive").setChecked(True)
    assert form.request().how.power == 0.5
    panel.run()
    settle(qtbot, panel)
    record = Record.read(map_of(panel.overlay).provenance)
    assert record.request().how == form.request().how
    assert panel.overlay.name.startswith("Gradient x input")
    form.choose_method("grad-cam")
    assert not form.form.isRowVisible(form.field("positive"))
