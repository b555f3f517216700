"""How intensities and grids are prepared, in the panel: shown, previewed, run and run again."""

import json

import numpy as np
import pytest
import torch
from qtpy.QtGui import QGuiApplication
from torch import nn

import napari_cnnvis as cv
from napari_cnnvis._napari.contributions import read_scans
from napari_cnnvis._napari.explain.panel import ExplainPanel
from napari_cnnvis._napari.layers.scans import volume_to_layer
from napari_cnnvis._napari.maps.panel import MapsPanel
from napari_cnnvis.models.settings import Recipe

from ...models.formats.test_monai_pipelines import LOAD, PIPELINES, bundle_of, by_monai
from ...scan.monai_chains import random_scan
from ..waiting import settle

LINE = (
    "Orientation('RAS'), Spacing((1.7, 1.7, 1.7)), CropForeground(), "
    "NormalizeIntensity(nonzero=True), ResizeWithPadOrCrop((25, 24, 23))"
)


@pytest.fixture
def scan(tmp_path):
    return random_scan(np.random.default_rng(1), tmp_path / "s.nii.gz")


@pytest.fixture
def panel(opened, viewer, scan):
    panel = opened(ExplainPanel)
    (data, arguments, _) = read_scans(str(scan))[0]
    viewer.add_image(data, **arguments)
    panel.show()
    return panel


@pytest.fixture
def net_file(tmp_path):
    (tmp_path / "nets.py").write_text(
        "from torch import nn\n"
        "def make():\n"
        "    return nn.Sequential(nn.Conv3d(1, 4, 3, padding=1), nn.ReLU(),\n"
        "                         nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(4, 2))\n"
    )
    torch.manual_seed(0)
    net = nn.Sequential(
        *(nn.Conv3d(1, 4, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool3d(1)),
        *(nn.Flatten(), nn.Linear(4, 2)),
    )
    torch.save(net.state_dict(), tmp_path / "net.pt")
    return tmp_path / "net.pt"


def preview(qtbot, panel):
    """The network's input as the panel shows it."""
    before = len(panel.viewer.layers)
    panel.network.settings.preview.setChecked(True)
    qtbot.waitUntil(lambda: len(panel.viewer.layers) == before + 1, timeout=20_000)
    data = np.array(panel.viewer.layers[-1].data)
    panel.network.settings.preview.setChecked(False)
    return data


def laid_out(data, affine):
    """A volume's array with the axes that the viewer has."""
    return volume_to_layer(cv.Volume(data, affine))[0]


def run(qtbot, panel):
    panel.method_form.choose_method("grad-cam")
    panel.run()
    settle(qtbot, panel)
    assert "⚠" not in panel.status.text()
    return panel.session.result.attribution


def test_a_bundles_steps_are_shown_in_one_line_and_done(qtbot, panel, scan, tmp_path):
    path, _ = bundle_of(tmp_path / "b", PIPELINES["spacing"])
    panel.load_model(path)
    settle(qtbot, panel)
    form = panel.network.settings.input
    assert form.steps.text() == LINE
    theirs = by_monai(LOAD + PIPELINES["spacing"], {"image": scan})
    model = cv.load_model(path, device="cpu")
    affine = model.conform(cv.read_volume(scan)).affine
    np.testing.assert_allclose(preview(qtbot, panel), laid_out(theirs[0], affine), atol=1e-5)
    found = run(qtbot, panel)
    expected = cv.explain(model, cv.read_volume(scan), found.record.request())
    assert np.abs(expected.data).max() > 0
    np.testing.assert_allclose(
        found.data,
        laid_out(expected.data, expected.affine),
        atol=1e-5 * np.abs(expected.data).max(),
    )


@pytest.mark.parametrize(
    ("field", "given"),
    [
        ("intensity", "mean, clip 0 8"),
        ("intensity", "z-score-nonzero, clip -1 1"),
        ("steps", "Orientation('LPS'), ScaleIntensity(minv=-1), Resize((12, 11, 10))"),
    ],
)
def test_what_is_typed_is_run_recorded_and_run_again(qtbot, panel, scan, net_file, field, given):
    arch = f"{net_file.parent / 'nets.py'}:make()"
    panel.network.settings.trust.setChecked(True)
    panel.network.load(net_file, Recipe(arch))
    settle(qtbot, panel)
    panel.network.settings.trust.setChecked(True)
    panel.network.settings.apply.click()
    settle(qtbot, panel)
    settings = panel.network.settings
    if field == "steps":
        settings.input.steps.setText(given)
        settings.input.steps.textEdited.emit(given)
        spec = cv.InputSpec(steps=given)
    else:
        settings.input.intensity.setCurrentText(given)
        spec = cv.InputSpec(intensity=given)
    settings.apply.click()
    settle(qtbot, panel)
    assert panel.network.model.input_spec == spec
    model = cv.load_model(net_file, arch=arch, trust=True, input_spec=spec, device="cpu")
    conformed = model.conform(cv.read_volume(scan))
    np.testing.assert_allclose(
        preview(qtbot, panel), laid_out(conformed.data, conformed.affine), atol=1e-5
    )
    first = run(qtbot, panel)
    record = dict(first.record.values)
    assert cv.InputSpec(**json.loads(json.dumps(record["model"]["input"]))) == spec
    maps = MapsPanel(panel.viewer)
    qtbot.addWidget(maps)
    maps.show()
    maps.copy.click()
    script = QGuiApplication.clipboard().text()
    assert given.split(",")[0] in script
    compile(script, "script", "exec")
    settings.input.show_spec(cv.InputSpec())
    settings.apply.click()
    settle(qtbot, panel)
    before = panel.session.result
    panel.session.run_again(record)
    qtbot.waitUntil(lambda: panel.session.result not in (before, None), timeout=30_000)
    settle(qtbot, panel)
    again = panel.session.result.attribution
    assert np.abs(first.data).max() > 0
    np.testing.assert_allclose(again.data, first.data, atol=1e-6 * np.abs(first.data).max())
    assert again.record.values["model"]["input"] == record["model"]["input"]


@pytest.mark.parametrize(
    ("field", "given", "words"),
    [
        ("steps", "Spacing(", "not a list of steps"),
        ("steps", "Spaceing((1, 1, 1))", "nearest are Spacing"),
        ("intensity", "mena", "not an intensity rule"),
    ],
)
def test_what_cannot_be_read_is_said_beside_the_fields(qtbot, panel, field, given, words):
    settings = panel.network.settings
    settings.show()
    if field == "steps":
        settings.input.steps.setText(given)
        settings.input.steps.textEdited.emit(given)
    else:
        settings.input.intensity.setCurrentText(given)
    assert words in settings.problem.text()
    settings.input.steps.setText("")
    settings.input.steps.textEdited.emit("")
    settings.input.intensity.setCurrentText("mean, clip 0 8")
    assert not settings.problem.isVisible()
