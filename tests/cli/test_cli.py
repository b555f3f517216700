import json
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch

import napari_cnnvis as cv
from napari_cnnvis.cli import main
from napari_cnnvis.explain.scoring.occluded_scan import Limits
from napari_cnnvis.models.networks.vox import VoxResNetGAP
from napari_cnnvis.ucm.build import default_counts

AFFINE = np.array([[0, -2.0, 0, 20], [2, 0, 0, -15], [0, 0, 2, 7], [0, 0, 0, 1]])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A scan, a network with two classes, and a network whose class is called "1"."""
    folder = tmp_path_factory.mktemp("cli")
    grid = np.indices((18, 20, 16)) - np.array([9, 10, 8])[:, None, None, None]
    head = (grid**2).sum(0) < 49
    data = np.where(head, np.random.default_rng(0).uniform(0.5, 1, head.shape), 0)
    cv.write_volume(cv.Volume(data, AFFINE), folder / "scan.nii.gz")
    torch.manual_seed(0)
    net = VoxResNetGAP()
    cv.save_model(net, folder / "net.safetensors", ["patient", "control"], cv.InputSpec())
    cv.save_model(net, folder / "odd.safetensors", ["1", "0"], cv.InputSpec())
    return folder


@pytest.fixture
def explain(folder, tmp_path):
    """Run ``napari-cnnvis explain`` on the scan; returns the exit status."""

    def run(*options, scan=None, model="net.safetensors", output=tmp_path / "map.nii.gz"):
        scan = folder / "scan.nii.gz" if scan is None else scan
        files = [str(scan), "--model", str(folder / model), "-o", str(output)]
        return main(["explain", *files, "--device", "cpu", *options])

    return run


@pytest.fixture
def written(tmp_path):
    def read():
        record = json.loads((tmp_path / "map.json").read_text())
        return cv.read_volume(tmp_path / "map.nii.gz"), record

    return read


@pytest.fixture
def scan(folder):
    return cv.read_volume(folder / "scan.nii.gz")


@pytest.fixture
def model(folder):
    return cv.load_model(folder / "net.safetensors", device="cpu")


def assert_same(volume, attribution):
    assert np.abs(attribution.data).max() > 0
    scale = np.abs(attribution.data).max()
    np.testing.assert_allclose(volume.data, attribution.data, atol=1e-6 * scale)
    np.testing.assert_allclose(volume.affine, AFFINE, atol=1e-5)


def test_cam_is_the_apis(explain, written, scan, model):
    assert explain("--method", "cam", "--target", "1") == 0
    found, record = written()
    assert_same(found, cv.cam(model, scan, 1))
    assert (record["method"], record["class_name"]) == ("CAM", "control")


def test_grad_cam_is_the_default_method(explain, written, scan, model):
    assert explain("--target", "0") == 0
    found, record = written()
    assert_same(found, cv.grad_cam(model, scan, 0))
    assert record["layer"] == model.layers(scan.shape).recommended


def test_options_of_grad_cam(explain, written, scan, model):
    assert (
        explain(
            *("--layer", "conv1b", "--signed", "--score", "probability", "--target", "0"),
            *("--alignment", "receptive field"),
        )
        == 0
    )
    expected = cv.grad_cam(
        model, scan, 0, layer="conv1b", relu=False, score="probability", alignment="receptive field"
    )
    assert (expected.data < 0).any()
    assert_same(written()[0], expected)


@pytest.mark.parametrize("baseline", ["blur", "0.5"])
def test_sensitivity_is_the_apis(explain, written, scan, model, baseline):
    options = ("--method", "sensitivity", "--regions", "14", "--baseline", baseline)
    assert explain(*options, "--target", "control", "--quantity", "probability") == 0
    hierarchy = cv.build_hierarchy(scan)
    levels = default_counts(hierarchy.n_leaves, 14)
    found, record = written()
    expected = cv.sensitivity(
        model, scan, hierarchy, "control", baseline=baseline, quantity="probability", levels=levels
    )
    assert_same(found, expected)
    assert record["levels"] == levels


def test_predicted_class_is_the_default_target(explain, written, scan, model, capsys):
    assert explain("--method", "cam") == 0
    predicted = int(model.predict(scan).argmax())
    assert written()[1]["class"] == predicted
    assert f"CAM · {model.class_names[predicted]}" in capsys.readouterr().out


@pytest.mark.parametrize(("target", "index"), [("control", 1), ("patient", 0), ("1", 1)])
def test_target_by_name_or_number(explain, written, target, index):
    assert explain("--method", "cam", "--target", target) == 0
    assert written()[1]["class"] == index


@pytest.mark.parametrize(("target", "index"), [("1", 0), ("0", 1)])
def test_a_name_goes_before_a_number(explain, written, target, index):
    assert explain("--method", "cam", "--target", target, model="odd.safetensors") == 0
    assert written()[1]["class"] == index


def test_what_was_done_is_told(explain, model, scan, tmp_path, capsys):
    explain("--method", "cam", "--target", "patient")
    out, err = capsys.readouterr()
    assert f"patient {model.predict(scan)[0]:.1%}" in out
    assert str(tmp_path / "map.nii.gz") in out
    assert err == ""


@pytest.fixture
def refused(explain, tmp_path, capsys):
    """Run, and check that it ends with status 2, one line on stderr and no file."""

    def run(*options, **kwargs):
        assert explain(*options, **kwargs) == 2
        out, err = capsys.readouterr()
        assert err.startswith("napari-cnnvis: ")
        assert err.count("\n") == 1
        assert "Traceback" not in err
        assert out == ""
        assert not list(tmp_path.glob("map*"))
        return err

    return run


def test_missing_scan(refused, tmp_path):
    assert "There is no file" in refused(scan=tmp_path / "no.nii.gz")


def test_scan_that_is_no_scan(refused, tmp_path):
    (tmp_path / "scan.nii").write_text("hello")
    assert "scan.nii" in refused(scan=tmp_path / "scan.nii")


@pytest.mark.parametrize("name", ["net.pt", "net.safetensors", "net.npz"])
def test_bad_model(refused, tmp_path, name):
    (tmp_path / name).write_bytes(b"not a network" * 9)
    assert name in refused(model=tmp_path / name)


def test_missing_model(refused):
    assert "There is no file" in refused(model="no.pt")


@pytest.mark.parametrize("target", ["unknown", "2", "-1"])
def test_unknown_class(refused, target):
    assert "0 (patient), 1 (control)" in refused(f"--target={target}")


def test_unknown_layer(refused):
    assert "no layer 'conv99'" in refused("--layer", "conv99")


def test_all_layers_do_not_fit_into_one_file(refused):
    assert "Choose one layer" in refused("--layer", "all")


def test_bad_baseline(refused):
    text = "use 'blur', 'border', 'noise', a number such as 0, or a volume"
    assert text in refused("--method", "sensitivity", "--baseline", "mean")


def test_too_few_regions(refused):
    assert "give a whole number from 1 up" in refused("--method", "sensitivity", "--regions", "0")


def test_output_with_another_ending(refused, tmp_path):
    assert ".nii.gz" in refused(output=tmp_path / "map.png")


def test_output_in_a_missing_folder(refused, tmp_path):
    assert "no folder" in refused(output=tmp_path / "missing" / "map.nii")


def test_unknown_device(refused):
    assert "no device 'abacus'" in refused("--device", "abacus")


@pytest.mark.parametrize(
    "arguments", [[], ["explain"], ["explain", "a.nii", "--model", "b", "-o", "c", "--method", "x"]]
)
def test_wrong_usage(arguments, capsys):
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    assert "usage: napari-cnnvis" in capsys.readouterr().err


def test_explaining_loads_neither_qt_nor_napari(folder, tmp_path):
    code = f"""
import sys
from napari_cnnvis.cli import main
from napari_cnnvis.explain.scoring.full_passes import FullPassScorer
status = main(["explain", {str(folder / "scan.nii.gz")!r}, "--method", "cam", "--device", "cpu",
               "--model", {str(folder / "net.safetensors")!r}, "-o", {str(tmp_path / "m.nii")!r}])
loaded = {{name.partition(".")[0] for name in sys.modules}}
print(status, sorted(loaded & {{"napari", "qtpy", "PyQt5", "PyQt6", "PySide6", "vispy"}}))
"""
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert result.stdout.splitlines()[-1] == "0 []"
    assert (tmp_path / "m.nii").is_file()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems have a display")
def test_demo_without_a_display_says_what_to_do(monkeypatch, capsys):
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    assert main(["demo"]) == 2
    assert "Use --screenshot out.png" in capsys.readouterr().err


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems have a display")
def test_screenshot_without_a_virtual_display_says_what_to_install(monkeypatch, capsys):
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setenv("PATH", "")
    assert main(["demo", "--screenshot", "out.png"]) == 2
    assert "apt-get install xvfb" in capsys.readouterr().err


def test_interrupted_sensitivity_writes_the_map_so_far(explain, written, monkeypatch):
    batches = Limits.batches

    def interrupted(self, scored, *how):
        single = ((m[i : i + 1], x[i : i + 1]) for m, x in scored for i in range(len(m)))

        def one_by_one():
            yield next(single)
            signal.raise_signal(signal.SIGINT)
            yield from single

        return batches(self, one_by_one(), *how)

    monkeypatch.setattr(Limits, "batches", interrupted)
    assert explain("--method", "sensitivity", "--target", "patient") == 130
    volume, record = written()
    assert record["partial"] is True
    assert np.abs(volume.data).max() > 0


def test_supervoxels_are_those_of_the_api(folder, tmp_path, scan, capsys):
    whole, levels = tmp_path / "tree.npz", tmp_path / "levels.nii.gz"
    contours = tmp_path / "contours.nii.gz"
    command = ["supervoxels", str(folder / "scan.nii.gz"), "--regions", "20", "8", "2"]
    assert main([*command, "-o", str(whole), "--contours", str(contours)]) == 0
    assert main([*command, "-o", str(levels)]) == 0
    expected = cv.build_hierarchy(scan, counts=[20, 8, 2])
    np.testing.assert_array_equal(cv.Hierarchy.load(whole).leaves, expected.leaves)
    assert cv.Hierarchy.read(levels, background=0).cut(8).max() == 8
    np.testing.assert_allclose(
        cv.read_volume(contours).data, expected.contour_map(), rtol=1e-6, atol=1e-6
    )
    assert "supervoxels, levels of 20, 8, 2 regions, written to" in capsys.readouterr().out


def test_sensitivity_of_supervoxels_from_a_file(explain, written, folder, tmp_path, scan, model):
    tree = tmp_path / "tree.npz"
    scan_file = str(folder / "scan.nii.gz")
    assert main(["supervoxels", scan_file, "--regions", "9", "3", "-o", str(tree)]) == 0
    assert explain("--method", "sensitivity", "--target", "1", "--supervoxels", str(tree)) == 0
    hierarchy = cv.build_hierarchy(scan, counts=[9, 3])
    found, _ = written()
    assert_same(found, cv.sensitivity(model, scan, hierarchy, 1, baseline="blur"))


def test_supervoxels_without_sensitivity_are_refused(explain, tmp_path, capsys):
    assert explain("--method", "cam", "--supervoxels", "tree.npz") == 2
    assert "needs --method sensitivity" in capsys.readouterr().err


def test_supervoxels_of_another_grid_are_refused(explain, tmp_path, capsys):
    other = tmp_path / "other.npz"
    cv.Hierarchy.from_levels([np.arange(27).reshape(3, 3, 3)]).save(other)
    assert explain("--method", "sensitivity", "--supervoxels", str(other)) == 2
    assert "voxels, but the scan" in capsys.readouterr().err
