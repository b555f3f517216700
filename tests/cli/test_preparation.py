"""How intensities and grids are prepared, from the command line to record, script and checkpoint."""

import json

import nibabel as nib
import numpy as np
import pytest
import torch
from torch import nn

import napari_cnnvis as cv
from napari_cnnvis.cli import main
from napari_cnnvis.explain.record import Record

from ..models.formats.test_monai_pipelines import LOAD, bundle_of, by_monai
from ..scan.monai_chains import in_bundle, random_scan

NET = """
from torch import nn

class Net(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Conv3d(1, 4, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool3d(1),
                         nn.Flatten(), nn.Linear(4, 2))
"""


def net():
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv3d(1, 4, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool3d(1)),
        *(nn.Flatten(), nn.Linear(4, 2)),
    ).eval()


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "nets.py").write_text(NET)
    torch.save(net().state_dict(), tmp_path / "net.pt")
    random_scan(np.random.default_rng(4), tmp_path / "scan.nii.gz")
    return tmp_path


def arguments(folder, command, *more):
    given = [command, "--trust", "--arch", f"{folder / 'nets.py'}:Net()", "--device", "cpu", *more]
    model = str(folder / "net.pt")
    return given + ([model] if command == "info" else ["--model", model])


def clipped_mean(x):
    return np.clip(x / x.mean(), 0, 8)


def z_of_nonzero(x):
    inside = x[x != 0]
    return np.clip(np.where(x != 0, (x - inside.mean()) / inside.std(), 0), -1, 1)


def window(x):
    return np.clip((x - 20) / 180, 0, 1)


RULES = {"mean, clip 0 8": clipped_mean, "z-score-nonzero, clip -1 1": z_of_nonzero,
         "window 20 200": window}  # fmt: skip
STEPS = [("ScaleIntensity", {"minv": -1}), ("Spacing", {"pixdim": (2, 2, 2)}),
         ("Orientation", {"axcodes": "LPS"}), ("CenterSpatialCrop", {"roi_size": (9, 9, 9)})]  # fmt: skip
LINE = (
    "ScaleIntensity(minv=-1), Spacing((2, 2, 2)), Orientation('LPS'), CenterSpatialCrop((9, 9, 9))"
)


@pytest.mark.parametrize("given", [*RULES, LINE])
def test_it_is_done_recorded_and_made_again_by_the_script(folder, given):
    """One after the other: the network's input, the record, the same map by its script."""
    scan = folder / "scan.nii.gz"
    stored = np.asarray(nib.load(scan).dataobj, dtype=np.float32)
    if given in RULES:
        option, x = "--intensity", RULES[given](stored.astype(float)).astype(np.float32)
    else:
        option, x = "--input-steps", by_monai(LOAD + in_bundle(STEPS), {"image": scan})[0]
    map_ = folder / "map.nii"
    more = ["--method", "grad-cam", "--target", "0", "-o", str(map_), option, given, str(scan)]
    assert main(arguments(folder, "explain", *more)) == 0
    record = json.loads((folder / "map.json").read_text())
    with torch.no_grad():
        expected = net()(torch.from_numpy(np.ascontiguousarray(x))[None, None])[0].softmax(0)
    spec = cv.InputSpec(**record["model"]["input"])
    arch = f"{folder / 'nets.py'}:Net()"
    model = cv.load_model(folder / "net.pt", arch=arch, trust=True, input_spec=spec, device="cpu")
    np.testing.assert_allclose(model.predict(cv.read_volume(scan)), expected, atol=1e-5)
    found = nib.load(map_).get_fdata(dtype=np.float32)
    assert np.abs(found).max() > 0
    script = Record.read(record).script(str(folder / "again.nii"))
    exec(script.replace("input_spec=", "trust=True, input_spec="), {})
    again = nib.load(folder / "again.nii").get_fdata(dtype=np.float32)
    np.testing.assert_allclose(again, found, atol=1e-6 * np.abs(found).max())
    assert json.loads((folder / "again.json").read_text())["model"]["input"] == spec.to_dict()


def test_a_bundle_is_explained_on_its_own_pipeline(folder, capsys):
    path, network = bundle_of(folder / "b", in_bundle(STEPS))
    scan, map_ = folder / "scan.nii.gz", folder / "map.nii"
    assert main(["info", str(path), "--device", "cpu"]) == 0
    assert f"after the steps {LINE}" in capsys.readouterr().out
    more = ["--method", "grad-cam", "--target", "1", "--device", "cpu", "-o", str(map_)]
    assert main(["explain", str(scan), "--model", str(path), *more]) == 0
    said = capsys.readouterr()
    assert "reproduced" not in said.out + said.err
    record = json.loads((folder / "map.json").read_text())
    assert ", ".join(record["model"]["input"]["steps"]) == LINE
    x = torch.from_numpy(by_monai(LOAD + in_bundle(STEPS), {"image": scan}))[None]
    with torch.no_grad():
        expected = network(x)[0].softmax(0)
    model = cv.load_model(path, device="cpu")
    np.testing.assert_allclose(model.predict(cv.read_volume(scan)), expected, atol=1e-5)


@pytest.mark.parametrize("option", ["--spacing", "--orientation", "--resize"])
def test_what_the_steps_say_already_is_refused_in_the_command_lines_words(folder, option, capsys):
    path, _ = bundle_of(folder / "b", in_bundle(STEPS))
    given = {"--spacing": ["1", "1", "1"], "--orientation": ["RAS"], "--resize": []}[option]
    assert main(["info", str(path), "--device", "cpu", option, *given]) == 2
    out = capsys.readouterr()
    assert "--input-steps" in out.out + out.err
    without = ["info", str(path), "--device", "cpu", option, *given, "--input-steps", ""]
    assert main(without) == 0
    out = capsys.readouterr().out
    assert "after the steps" not in out
    assert "intensities: max" in out


@pytest.mark.parametrize(
    ("option", "given", "words"),
    [
        ("--intensity", "mena", "not an intensity rule"),
        ("--intensity", "clip 8 0", "not an intensity rule"),
        ("--input-steps", "Spacin((1, 1, 1))", "nearest are Spacing"),
        ("--input-steps", "Spacing(", "not a list of steps"),
        ("--input-steps", "Spacing((1, 1, 1), speed=2)", "has these arguments"),
    ],
)
def test_what_cannot_be_read_is_said(folder, option, given, words, capsys):
    more = ["--method", "grad-cam", option, given, "-o", str(folder / "m.nii")]
    assert main([*arguments(folder, "explain", *more), str(folder / "scan.nii.gz")]) == 2
    assert words in capsys.readouterr().err
    assert not (folder / "m.nii").exists()
