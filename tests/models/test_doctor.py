import json
import re

import numpy as np
import pytest
import torch
from torch import nn

import napari_cnnvis as cv
from napari_cnnvis import examine_checkpoint
from napari_cnnvis.models.checkpoint import open_checkpoint
from napari_cnnvis.models.doctor import report_on
from napari_cnnvis.models.networks.vox import VoxResNetGAP, VoxVGG

RESNET = (
    "monai.networks.nets:resnet10(spatial_dims=3, n_input_channels=1, num_classes=3, "
    "widen_factor=0.25)"
)


@pytest.fixture
def resnet_file(tmp_path):
    from monai.networks.nets import resnet10

    torch.manual_seed(0)
    net = resnet10(spatial_dims=3, n_input_channels=1, num_classes=3, widen_factor=0.25)
    torch.save(
        {"state_dict": {f"net.{k}": v for k, v in net.state_dict().items()}}, tmp_path / "r.pt"
    )
    return tmp_path / "r.pt"


def test_a_good_checkpoint(tmp_path):
    torch.save(VoxResNetGAP(n_classes=3).state_dict(), tmp_path / "net.pt")
    report = examine_checkpoint(tmp_path / "net.pt", shape=(24, 20, 16), device="cpu")
    assert report.usable
    assert report.kind == "PyTorch state dict"
    assert report.architecture == "VoxResNetGAP"
    assert report.n_parameters == sum(p.numel() for p in VoxResNetGAP(n_classes=3).parameters())
    assert (report.matched, report.expected) == (44, 44)
    assert (report.channels, report.n_outputs, report.output, report.last) == (1, 3, "softmax", "")
    assert report.class_names == ("class 0", "class 1", "class 2")
    assert report.norms == {"BatchNorm3d": 7}
    assert report.cam == "applies, at relu4"
    assert report.recommended == "relu4"
    assert report.layers[-1].shape == (12, 10, 8)
    assert report.grid == (24, 20, 16)
    assert report.pass_seconds > 0
    assert report.grad_cam_bytes > report.pass_bytes > 0


def test_multiply_adds_are_those_of_the_formula():
    net = nn.Sequential(
        *(nn.Conv3d(2, 6, 3, padding=1, groups=2), nn.ConvTranspose3d(6, 4, 2, stride=2)),
        *(nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(4, 5)),
    )
    model = cv.Model(net, input_spec=cv.InputSpec(channels=2), device="cpu")
    found = model.layers((5, 6, 7)).multiply_adds
    cells = 5 * 6 * 7
    assert found == cells * 6 * 27 + cells * 6 * 4 * 8 + 4 * 5


def test_prefixes_and_wrappers_that_were_undone_are_said(resnet_file):
    report = examine_checkpoint(resnet_file, RESNET, device="cpu")
    assert report.usable
    assert "entry 'state_dict'" in " ".join(report.notes)
    assert "prefix 'net.'" in " ".join(report.notes)
    assert report.matched == report.expected


def test_an_unknown_network_still_tells_what_the_file_says(resnet_file):
    report = examine_checkpoint(resnet_file, device="cpu")
    assert not report.usable
    assert "arch=" in report.problem
    assert report.architecture == ""
    assert report.channels == 1
    assert report.n_outputs == 3
    assert report.n_tensors > 40
    assert str(report).startswith("Problem:")


def test_weights_that_do_not_fit_are_counted(resnet_file):
    other = RESNET.replace("num_classes=3", "num_classes=2")
    report = examine_checkpoint(resnet_file, other, device="cpu")
    assert not report.usable
    assert report.expected - report.matched == 2
    assert "3 classes" in report.problem
    assert f"{report.matched} of {report.expected} tensors match" in str(report)


@pytest.mark.parametrize(
    ("end", "last", "output"),
    [
        ([nn.Linear(4, 2), nn.Softmax(1)], "softmax", "softmax"),
        ([nn.Linear(4, 2), nn.LogSoftmax(1)], "log_softmax", "softmax"),
        ([nn.Linear(4, 3), nn.Sigmoid()], "sigmoid", "sigmoid"),
        ([nn.Linear(4, 1)], "", "sigmoid"),
        ([nn.Linear(4, 2)], "", "softmax"),
    ],
)
def test_what_the_network_ends_in(end, last, output):
    net = nn.Sequential(nn.Conv3d(1, 4, 3), nn.AdaptiveAvgPool3d(1), nn.Flatten(), *end)
    report = report_on(None, cv.Model(net, device="cpu"), (9, 9, 9))
    assert (report.last, report.output) == (last, output)
    assert ("undone" in str(report)) == bool(last)


def test_a_missing_file_is_a_problem_not_an_exception(tmp_path):
    report = examine_checkpoint(tmp_path / "none.pt")
    assert not report.usable
    assert "There is no file" in report.problem


def test_it_says_the_same_as_loading(tmp_path):
    torch.save(VoxVGG().state_dict(), tmp_path / "net.pt")
    spec = cv.InputSpec(shape=(64, 64, 64))
    report = examine_checkpoint(tmp_path / "net.pt", input_spec=spec, device="cpu")
    with pytest.raises(cv.CnnVisError, match=re.escape(report.problem)):
        cv.load_model(tmp_path / "net.pt", input_spec=spec, device="cpu")
    assert "110 x 110 x 110" in report.problem


def test_json_holds_everything(tmp_path):
    torch.save(VoxResNetGAP().state_dict(), tmp_path / "net.pt")
    report = examine_checkpoint(tmp_path / "net.pt", shape=(20, 20, 20), device="cpu")
    stored = json.loads(report.to_json())
    assert stored["architecture"] == "VoxResNetGAP"
    assert stored["layers"][-1]["name"] == "relu4"


def test_nothing_of_the_model_is_changed(tmp_path):
    torch.save(VoxResNetGAP().state_dict(), tmp_path / "net.pt")
    opened = open_checkpoint(tmp_path / "net.pt")
    opened.module.train()
    model = opened.model("cpu")
    before = model.weights_hash()
    report_on(opened, model, (20, 20, 20))
    assert model.weights_hash() == before
    assert all(m.training for m in opened.module.modules())
    assert not any(m._forward_hooks for m in opened.module.modules())


def test_parameters_of_a_program_are_those_of_the_network(tmp_path):
    torch.manual_seed(0)
    net = nn.Sequential(
        *(nn.Conv3d(1, 4, 3), nn.BatchNorm3d(4), nn.ReLU(), nn.AdaptiveAvgPool3d(1)),
        *(nn.Flatten(), nn.Linear(4, 2)),
    ).eval()
    torch.export.save(torch.export.export(net, (torch.rand(1, 1, 9, 9, 9),)), tmp_path / "n.pt2")
    report = examine_checkpoint(tmp_path / "n.pt2", device="cpu")
    assert report.usable
    assert report.n_parameters == sum(p.numel() for p in net.parameters())
    assert report.grid == (9, 9, 9)
    assert np.isclose(report.multiply_adds, 7**3 * 27 * 4 + 8)
