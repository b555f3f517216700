"""What the settings of a network ask for besides its architecture and input."""

import torch
from qtpy.QtWidgets import QScrollArea

from napari_cnnvis._napari.explain.panel import ExplainPanel
from napari_cnnvis.models.settings import file_hash, remembered

from ..waiting import settle


def apply(qtbot, panel, arch):
    panel.network.settings.arch.setText(arch)
    panel.network.settings.trust.setChecked(True)
    panel.network.settings.apply.click()
    settle(qtbot, panel)


AGE_NET = """
import torch
from qtpy.QtWidgets import QScrollArea
from torch import nn
class AgeNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.out = nn.Conv3d(1, 4, 3), nn.Linear(5, 2)
    def forward(self, x, age):
        features = torch.relu(self.conv(x)).mean((2, 3, 4))
        return features, self.out(torch.cat([features, age.reshape(-1, 1) / 100], 1))
"""


def test_further_inputs_and_scores_are_given_in_the_settings(qtbot, opened, tmp_path):
    scope = {}
    exec(AGE_NET, scope)
    (tmp_path / "nets.py").write_text(AGE_NET)
    torch.save(scope["AgeNet"]().state_dict(), tmp_path / "net.pt")
    panel = opened(ExplainPanel)
    panel.show()
    box = panel.network
    panel.load_model(tmp_path / "net.pt")
    settle(qtbot, panel)
    arch = f"{tmp_path / 'nets.py'}:AgeNet()"
    apply(qtbot, panel, arch)
    assert "the field 'More inputs'" in panel.status.text()
    box.settings.extra.setText("age=71")
    apply(qtbot, panel, arch)
    assert "which are the scores" in panel.status.text()
    box.settings.scores.setText("1")
    apply(qtbot, panel, arch)
    assert box.model is not None, panel.status.text()
    assert (box.model.extra, box.model.scores) == ({"age": 71.0}, "1")
    box.settings.extra.setText("age is 71")
    box.settings.apply.click()
    assert "write them as age=71" in box.settings.problem.text()
    kept = remembered(file_hash(tmp_path / "net.pt"))
    assert (kept.extra, kept.scores) == ({"age": 71.0}, "1")


def test_nothing_of_the_settings_is_cut_off_at_the_side(qtbot, opened):
    panel = opened(ExplainPanel)
    panel.show()
    (scroll,) = panel.findChildren(QScrollArea)
    for shown in (False, True):
        panel.network.settings.setVisible(shown)
        qtbot.waitUntil(
            lambda: scroll.viewport().width() >= scroll.widget().minimumSizeHint().width()
        )
    panel.network.settings.trust.setText("Let Python code from files run on this computer now")
    qtbot.waitUntil(lambda: scroll.viewport().width() >= scroll.widget().minimumSizeHint().width())
