"""A network whose weights lie in several files, in the panel."""

import numpy as np
import pytest
import torch

import napari_cnnvis as cv
from napari_cnnvis._napari.explain.panel import ExplainPanel
from napari_cnnvis._napari.layers.maps import map_of
from napari_cnnvis._napari.layers.scans import volume_to_layer

from ..waiting import settle

CODE = """
from torch import cat, nn
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv3d(1, 4, 3), nn.ReLU(), nn.Conv3d(4, 4, 3), nn.ReLU())
        self.head = nn.Linear(5, 3)
        self.age = nn.Linear(5, 1)
    def forward(self, x, age):
        y = cat([self.backbone(x).mean((2, 3, 4)), age / 100], 1)
        return {"age": self.age(y), "diagnosis": self.head(y)}
"""


@pytest.fixture
def files(tmp_path):
    (tmp_path / "nets.py").write_text(CODE)
    space = {}
    exec(CODE, space)
    torch.manual_seed(0)
    net = space["Net"]().eval()
    torch.save(net.backbone.state_dict(), tmp_path / "backbone.pth")
    torch.save({f"head.{k}": v for k, v in net.head.state_dict().items()}, tmp_path / "head.pth")
    torch.save({f"age.{k}": v for k, v in net.age.state_dict().items()}, tmp_path / "age.pth")
    return net, [str(tmp_path / f"{name}.pth") for name in ("backbone", "head", "age")]


@pytest.fixture
def panel(opened, viewer):
    panel = opened(ExplainPanel)
    data = np.random.default_rng(0).random((20, 21, 22)).astype(np.float32)
    shown, arguments = volume_to_layer(cv.Volume(data, np.eye(4), "scan"))
    viewer.add_image(shown, **arguments)
    panel.show()
    return panel


@pytest.fixture
def loaded(qtbot, panel, files, monkeypatch, tmp_path):
    """The panel after a user chose all files and said what they do not."""
    picker, settings = panel.network.picker, panel.network.settings
    monkeypatch.setattr(picker._dialogs, "open_files", lambda *_: files[1])
    picker.browse.click()
    settle(qtbot, panel)
    assert panel.network.model is None
    assert settings.more_files.text() == "head.pth; age.pth"
    settings.arch.setText(f"{tmp_path / 'nets.py'}:Net()")
    settings.arch.textEdited.emit(settings.arch.text())
    settings.trust.setChecked(True)
    settings.scores.setText("diagnosis")
    settings.extra.setText("age=71")
    settings.apply.click()
    settle(qtbot, panel)
    return panel


def test_files_chosen_together_make_one_network(loaded, files):
    net, paths = files
    assert loaded.network.model.more_files == tuple(paths[1:])
    given = loaded.network.model.module.state_dict()
    assert all(torch.equal(given[k], v) for k, v in net.state_dict().items())
    assert "% of" not in loaded.network.settings.problem.text()


def test_what_was_said_is_offered_again_where_the_file_alone_does_not_load(qtbot, loaded, files):
    loaded.network.forget()
    loaded.load_model(files[1][0])
    settle(qtbot, loaded)
    assert loaded.network.model is None  # its code is a .py file, and trust is never remembered
    loaded.network.settings.trust.setChecked(True)
    loaded.network.settings.arch.textEdited.emit(loaded.network.settings.arch.text())
    loaded.network.settings.apply.click()
    settle(qtbot, loaded)
    assert loaded.network.model.extra == {"age": 71.0}
    assert loaded.network.model.more_files == tuple(files[1][1:])


def test_run_again_loads_all_files_with_scores_and_further_inputs(qtbot, loaded, viewer, files):
    loaded.run()
    settle(qtbot, loaded)
    first = next(map_of(layer) for layer in viewer.layers if map_of(layer) is not None)
    values, record = np.array(first.values), first.provenance
    loaded.network.settings.extra.setText("age=20")
    loaded.network.settings.apply.click()
    settle(qtbot, loaded)
    assert loaded.network.model.extra == {"age": 20.0}
    loaded.session.run_again(record)
    settle(qtbot, loaded)
    assert loaded.network.model.extra == {"age": 71.0}
    assert loaded.network.model.more_files == tuple(files[1][1:])
    again = next(map_of(layer) for layer in viewer.layers if map_of(layer) is not None)
    np.testing.assert_allclose(np.array(again.values), values, atol=1e-6)
