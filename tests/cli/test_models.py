"""The command line's options that say what a checkpoint is."""

import json

import nibabel as nib
import numpy as np
import pytest
import torch
from torch import nn

import napari_cnnvis as cv
from napari_cnnvis.cli import main
from napari_cnnvis.models.networks.vox import VoxResNetGAP

RESNET = (
    "monai.networks.nets:resnet10(spatial_dims=3, n_input_channels={}, num_classes=2, "
    "widen_factor=0.25)"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    from monai.networks.nets import resnet10

    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    torch.save(VoxResNetGAP().state_dict(), folder / "gap.pt")
    for channels in (1, 2):
        net = resnet10(
            spatial_dims=3, n_input_channels=channels, num_classes=2, widen_factor=0.25
        ).eval()
        torch.save(net.state_dict(), folder / f"resnet{channels}.pt")
    rng = np.random.default_rng(0)
    for name in ("t1", "flair"):
        data = rng.random((24, 22, 20)).astype(np.float32)
        data[:3] = 0
        cv.write_volume(cv.Volume(data), folder / f"{name}.nii.gz")
    return folder


def test_info_of_a_good_checkpoint(folder, capsys):
    assert main(["info", str(folder / "gap.pt"), "--device", "cpu"]) == 0
    out = capsys.readouterr().out
    assert "VoxResNetGAP" in out
    assert "all 44 tensors match" in out
    assert "applies, at relu4" in out


def test_info_for_a_scan_lists_layers(folder, capsys):
    scan = str(folder / "t1.nii.gz")
    assert (
        main(["info", str(folder / "gap.pt"), "--scan", scan, "--layers", "--device", "cpu"]) == 0
    )
    out = capsys.readouterr().out
    assert "24 x 22 x 20 voxels" in out
    assert "  relu4: 64 x 12 x 11 x 10  (recommended)" in out


def test_info_as_json(folder, capsys):
    assert main(["info", str(folder / "gap.pt"), "--json", "--device", "cpu"]) == 0
    assert json.loads(capsys.readouterr().out)["architecture"] == "VoxResNetGAP"


def test_info_of_an_unknown_network_says_what_to_give(folder, capsys):
    assert main(["info", str(folder / "resnet1.pt"), "--device", "cpu"]) == 2
    out = capsys.readouterr().out
    assert out.startswith("Problem:")
    assert "arch=" in out


def test_info_with_everything_given(folder, capsys):
    arguments = [
        *("info", str(folder / "resnet1.pt"), "--arch", RESNET.format(1), "--device", "cpu"),
        *("--classes", "NC", "AD", "--shape", "32", "32", "32", "--intensity", "z-score"),
        *("--orientation", "LPS", "--spacing", "1", "1", "2"),
    ]
    assert main(arguments) == 0
    out = capsys.readouterr().out
    assert "NC, AD" in out
    assert "padded or cropped to 32 x 32 x 32 voxels, axes LPS, 1 x 1 x 2 mm" in out
    assert "z-score" in out


def explain(folder, *arguments, scan="t1.nii.gz"):
    status = main(
        [
            "explain",
            str(folder / scan),
            "--device",
            "cpu",
            "-o",
            str(folder / "map.nii"),
            "--overwrite",
            *arguments,
        ]
    )
    if status:
        return None
    record = json.loads((folder / "map.json").read_text())
    return nib.load(folder / "map.nii").get_fdata(dtype=np.float32), record


def test_any_network_by_its_architecture(folder):
    data, record = explain(
        folder,
        *("--model", str(folder / "resnet1.pt"), "--arch", RESNET.format(1)),
        *("--target", "AD", "--classes", "NC", "AD", "--method", "layercam"),
    )
    model = cv.load_model(
        folder / "resnet1.pt", arch=RESNET.format(1), class_names=["NC", "AD"], device="cpu"
    )
    expected = cv.layer_cam(model, cv.read_volume(folder / "t1.nii.gz"), "AD")
    np.testing.assert_allclose(data, expected.data, rtol=1e-4, atol=1e-7)
    assert record["method"] == "LayerCAM"


def test_several_channels(folder):
    data, record = explain(
        folder,
        *("--model", str(folder / "resnet2.pt"), "--arch", RESNET.format(2)),
        *("--channel", str(folder / "flair.nii.gz"), "--target", "0"),
    )
    model = cv.load_model(folder / "resnet2.pt", arch=RESNET.format(2), device="cpu")
    scans = [cv.read_volume(folder / f"{n}.nii.gz") for n in ("t1", "flair")]
    np.testing.assert_allclose(data, cv.grad_cam(model, scans, 0).data, rtol=1e-4, atol=1e-7)
    assert record["scan"]["other_channels"][0]["name"] == "flair"


def test_a_missing_channel_is_a_plain_sentence(folder, capsys):
    given = ("--model", str(folder / "resnet2.pt"), "--arch", RESNET.format(2))
    assert explain(folder, *given) is None
    assert "takes 2 input channel(s), but 1 volume(s)" in capsys.readouterr().err


def test_sliding_windows(folder):
    data, record = explain(
        folder,
        *("--model", str(folder / "resnet1.pt"), "--arch", RESNET.format(1), "--target", "1"),
        *("--window", "16", "16", "16", "--overlap", "0.25"),
    )
    assert record["model"]["input"]["window"] == [16, 16, 16]
    spec = cv.InputSpec(window=(16, 16, 16), overlap=0.25)
    model = cv.load_model(
        folder / "resnet1.pt", arch=RESNET.format(1), input_spec=spec, device="cpu"
    )
    expected = cv.grad_cam(model, cv.read_volume(folder / "t1.nii.gz"), 1)
    np.testing.assert_allclose(data, expected.data, rtol=1e-4, atol=1e-7)


def test_a_regression_explains_higher_values_by_default(folder, capsys, tmp_path):
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv3d(1, 2, 3), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(2, 1)
    )
    (tmp_path / "nets.py").write_text(
        "from torch import nn\n"
        "def make(): return nn.Sequential(nn.Conv3d(1, 2, 3), nn.ReLU(), nn.AdaptiveAvgPool3d(1),\n"
        "                                 nn.Flatten(), nn.Linear(2, 1))\n"
    )
    torch.save(net.state_dict(), tmp_path / "age.pt")
    given = (
        *("--model", str(tmp_path / "age.pt"), "--arch", f"{tmp_path / 'nets.py'}:make"),
        *("--outputs", "regression", "--classes", "age"),
    )
    assert explain(folder, *given) is None
    assert "would run Python code" in capsys.readouterr().err
    _, record = explain(folder, *given, "--trust")
    assert record["class_name"] == "higher age"
    assert record["score"] == "value"
    assert "age" in capsys.readouterr().out
