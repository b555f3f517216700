"""A study on disk, a network, a store, and the panel "Scans"."""

import pytest
import torch
from napari.components import ViewerModel
from torch import nn

import napari_cnnvis as cv
from napari_cnnvis._napari.explain.panel import ExplainPanel
from napari_cnnvis._napari.scans.panel import ScansPanel
from napari_cnnvis.cohort.store import ResultStore
from napari_cnnvis.models.model import Model

from .study_steps import idle, write_scan


@pytest.fixture
def study(tmp_path):
    """Six scans, of which the labels of the last two are wrong for `bright_is_ad`, one missing."""
    rows = ["Path,Label"]
    for number in range(6):
        bright = number % 2
        write_scan(tmp_path / f"s{number}.nii.gz", number, level=float(bright))
        says = ("control", "AD")[bright if number < 4 else 1 - bright]
        rows.append(f"s{number}.nii.gz,{says}")
    rows.append("s9.nii.gz,AD")
    (tmp_path / "metadata.csv").write_text("\n".join(rows))
    return tmp_path / "metadata.csv"


@pytest.fixture
def model():
    """Says AD of scans whose mean is above 1."""
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv3d(1, 2, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten()
    )
    module.append(nn.Linear(2, 2))
    with torch.no_grad():
        conv, head = module[0], module[-1]
        conv.weight.zero_()
        conv.weight[:, 0, 1, 1, 1] = 1
        conv.bias.zero_()
        head.weight.copy_(torch.tensor([[-1.0, -1.0], [1.0, 1.0]]))
        head.bias.copy_(torch.tensor([2.0, -2.0]))
    spec = cv.InputSpec(intensity="none")
    return Model(module, ["control", "AD"], spec, "cpu", "Bright")


@pytest.fixture
def store(tmp_path):
    return ResultStore(tmp_path / "results")


@pytest.fixture
def open_panel(qtbot, store):
    """Makes the panel, with or without Explain CNN beside it; both are idle when the test ends."""
    made = []

    def make(model=None, viewer=None):
        viewer = viewer or ViewerModel()
        explain = None
        if model is not None:
            explain = ExplainPanel(viewer)
            explain.use_model(model)
        panel = ScansPanel(viewer, store)
        panel.viewer, panel.explain = viewer, explain
        made.append(panel)
        return panel

    yield make
    for panel in made:
        panel.cancel()
        idle(qtbot, panel)
        panel.closed()
        for widget in filter(None, (panel, panel.explain)):
            widget.deleteLater()
    qtbot.wait(1)
