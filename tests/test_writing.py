"""What is written: never over what it was made from, with the rights of any new file."""

import contextlib
import json
import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

import napari_cnnvis as cv
from napari_cnnvis.cli import main
from napari_cnnvis.errors import CnnVisError, VolumeError
from napari_cnnvis.evaluate.roi_tables import write_roi_csv
from napari_cnnvis.models.networks.vox import VoxResNetGAP
from napari_cnnvis.models.settings import Recipe, remember
from napari_cnnvis.ucm.files import write_levels
from napari_cnnvis.writing import atomic_path, check_folder, check_output, companion

BIDS = '{"RepetitionTime": 2.3}'


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A scan with a BIDS sidecar, a network as safetensors and as .pt with a sidecar, supervoxels."""
    folder = tmp_path_factory.mktemp("made")
    grid = np.indices((14, 16, 12)) - np.array([7, 8, 6])[:, None, None, None]
    inside = (grid**2).sum(0) < 30
    data = np.where(inside, np.random.default_rng(0).uniform(0.5, 1, inside.shape), 0)
    volume = cv.Volume(data, np.diag([2.0, 2.0, 2.0, 1.0]))
    cv.write_volume(volume, folder / "scan.nii.gz")
    (folder / "scan.json").write_text(BIDS)
    torch.manual_seed(0)
    net = VoxResNetGAP()
    cv.save_model(net, folder / "net.safetensors", ["a", "b"], cv.InputSpec())
    torch.save(net.state_dict(), folder / "other.pt")
    (folder / "other.json").write_text('{"class_names": ["a", "b"]}')
    cv.build_hierarchy(volume, counts=[6, 2]).save(folder / "tree.npz")
    return folder


@pytest.fixture
def folder(made, tmp_path):
    return shutil.copytree(made, tmp_path / "work")


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def explain(folder, output, *options, model="net.safetensors"):
    scan, net = str(folder / "scan.nii.gz"), str(folder / model)
    files = [scan, "--model", net, "-o", str(output), "--device", "cpu"]
    return main(["explain", *files, *(options or ("--method", "cam"))])


def hard_link(folder):
    os.link(folder / "scan.nii.gz", folder / "linked.nii.gz")
    return folder / "linked.nii.gz"


def symbolic_link(folder):
    (folder / "linked.nii.gz").symlink_to("scan.nii.gz")
    return folder / "linked.nii.gz"


def linked_folder(folder):
    (folder / "here").symlink_to(folder)
    return folder / "here" / "scan.nii.gz"


OVER_INPUTS = {
    "the scan": lambda d: d / "scan.nii.gz",
    "the scan, spelled otherwise": lambda d: d / "." / ".." / d.name / "scan.nii.gz",
    "a symbolic link to it": symbolic_link,
    "a hard link to it": hard_link,
    "through a linked folder": linked_folder,
    "the scan's sidecar": lambda d: d / "scan.nii",
    "the network's sidecar": lambda d: d / "other.nii.gz",
    "the sidecar of neither": lambda d: shutil.copy(d / "scan.json", d / "third.json") and d / "third.mgz",
}  # fmt: skip


@pytest.mark.parametrize("overwrite", [(), ("--overwrite",)], ids=["", "overwrite"])
@pytest.mark.parametrize("which", OVER_INPUTS)
def test_a_map_is_never_written_over_what_it_is_made_from(folder, capsys, plain, which, overwrite):
    output = OVER_INPUTS[which](folder)
    before = contents(folder)
    given = ("--method", "cam", *overwrite)
    assert explain(folder, output, *given, model="other.pt") == 2
    said = capsys.readouterr().err.strip()
    plain(said.removeprefix("napari-cnnvis: "))
    assert "another name" in said
    assert contents(folder) == before


def test_every_kind_of_input_is_kept(folder, capsys):
    shutil.copy(folder / "scan.nii.gz", folder / "base.nii.gz")
    shutil.copy(folder / "scan.nii.gz", folder / "levels.nii.gz")
    options = ["--method", "sensitivity", "--baseline", "blur", str(folder / "base.nii.gz"), "--overwrite"]  # fmt: skip
    before = contents(folder)
    for name in ("base.nii.gz", "base.nii", "tree.nii"):
        (folder / "base.json").write_text(BIDS)
        more = ["--supervoxels", str(folder / "tree.npz")]
        output = folder / name
        if name == "tree.nii":
            (folder / "tree.json").write_text(BIDS)
        assert explain(folder, output, *options, *more) == 2
        fine = folder / "fine.nii"
        assert explain(folder, fine, *options, *more, "--disagreement", str(output)) == 2
    assert {name: contents(folder)[name] for name in before} == before
    assert not (folder / "fine.nii").exists()


def test_a_map_that_is_there_is_replaced_only_when_that_is_said(folder, capsys):
    assert explain(folder, folder / "map.nii.gz") == 0
    before = contents(folder)
    assert explain(folder, folder / "map.nii.gz") == 2
    said = capsys.readouterr().err
    assert "map.nii.gz exists already" in said
    assert "--overwrite" in said
    assert contents(folder) == before
    options = ("--method", "cam", "--target", "a")
    assert explain(folder, folder / "map.nii.gz", *options, "--overwrite") == 0
    assert json.loads((folder / "map.json").read_text())["class_name"] == "a"
    assert explain(folder, folder / "map.nii", *options, "--overwrite") == 2, (
        "map.json is another's"
    )
    both = ("--disagreement", str(folder / "new.nii"))
    assert explain(folder, folder / "new.nii.gz", *options, *both) == 2
    assert "over each other" in capsys.readouterr().err


def test_in_python_too(folder):
    model = cv.load_model(folder / "net.safetensors", device="cpu")
    scan = cv.read_volume(folder / "scan.nii.gz")
    attribution = cv.cam(model, scan, 0)
    before = contents(folder)
    for name in ("scan.nii.gz", "scan.nii"):
        with pytest.raises(VolumeError, match="input of this run"):
            attribution.save(folder / name, overwrite=True)
    with pytest.raises(VolumeError, match="input of this run"):
        cv.write_volume(replace(scan, data=scan.data + 1), folder / "scan.nii.gz", overwrite=True)
    assert contents(folder) == before
    path = attribution.save(folder / "map.mgz")
    with pytest.raises(VolumeError, match="overwrite=True"):
        attribution.save(path)
    assert attribution.save(path, overwrite=True) == path
    (folder / "map.json").write_text(BIDS)
    with pytest.raises(VolumeError, match="another kind"):
        attribution.save(path, overwrite=True)


@pytest.mark.parametrize("damage", [3, {"other_channels": 5}, {"source": []}, {"other_channels": [None, 1]}])  # fmt: skip
def test_a_damaged_record_keeps_nothing_from_being_saved(folder, damage):
    volume = cv.read_volume(folder / "scan.nii.gz")
    record = {"method": "CAM", "class_name": "a", "scan": damage, "hierarchy": {"files": 3}}
    map_ = cv.Attribution(volume.data, volume.affine, record, volume)
    assert map_.save(folder / "map.nii").exists()


@pytest.mark.parametrize(
    ("command", "output"),
    [
        (["supervoxels", "scan.nii.gz", "-o"], "scan.nii.gz"),
        (["supervoxels", "scan.nii.gz", "-o", "new.npz", "--contours"], "scan.nii.gz"),
        (["figure", "scan.nii.gz", "map.nii.gz", "-o"], "map.png"),
        (["figure", "scan.nii.gz", "map.nii.gz", "-o"], "scan.png"),
    ],
)
def test_other_commands_keep_their_inputs(folder, capsys, monkeypatch, command, output):
    assert explain(folder, folder / "map.nii.gz") == 0
    monkeypatch.chdir(folder)
    before = contents(folder)
    assert main([*command, output, "--overwrite"]) == 2
    assert contents(folder) == before


def test_a_report_replaces_a_report_and_nothing_else(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    command = ["trust", "scan.nii.gz", "--model", "net.safetensors", "--method", "cam", "--tests", "edges", "-o"]  # fmt: skip
    assert main([*command, "report"]) == 0
    assert main([*command, "report"]) == 0
    (folder / "mine").mkdir()
    (folder / "mine" / "curves.csv").write_text("my own")
    assert main([*command, "mine"]) == 2
    assert "curves.csv would be replaced" in capsys.readouterr().err
    assert [p.name for p in (folder / "mine").iterdir()] == ["curves.csv"]


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_no_file_is_not_replaced(tmp_path, make):
    make(tmp_path / "map.nii")
    with pytest.raises(VolumeError, match="Cannot write"):
        check_output(tmp_path / "map.nii", overwrite=True)


def test_the_device_for_nothing_is_kept():
    with pytest.raises(VolumeError, match="device"):
        check_output("/dev/null", overwrite=True)


def test_a_dangling_link_is_there(tmp_path):
    (tmp_path / "map.nii").symlink_to("nowhere")
    with pytest.raises(VolumeError, match="exists already"):
        check_output(tmp_path / "map.nii")


def test_files_in_a_folder_that_is_read_are_kept(tmp_path):
    (tmp_path / "bundle" / "configs").mkdir(parents=True)
    inside = tmp_path / "bundle" / "configs" / "metadata.json"
    inside.write_text("{}")
    with pytest.raises(VolumeError, match="input of this run"):
        check_output(inside, [tmp_path / "bundle"], overwrite=True)
    assert check_output(tmp_path / "bundle" / "new.nii", [tmp_path / "bundle"])


def test_a_table_is_not_replaced_by_results_of_it(tmp_path):
    (tmp_path / "scores.csv").write_text("Path,Truth")
    with pytest.raises(VolumeError, match="input of this run"):
        check_folder(tmp_path, ["scores.csv"], [tmp_path / "scores.csv"], own=True)
    with pytest.raises(VolumeError, match="no earlier run"):
        check_folder(tmp_path, ["scores.csv"])
    assert check_folder(tmp_path, ["scores.csv"], own=True) == tmp_path


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.nii.gz", "a.json"),
        ("a.b.NII.GZ", "a.b.json"),
        ("a.mgz", "a.json"),
        ("a", "a.json"),
        ("a.nii.bz2", "a.json"),
    ],
)
def test_the_json_of_an_image_lies_beside_it(name, expected):
    assert companion(f"folder/{name}").name == expected


@contextlib.contextmanager
def umask(value):
    before = os.umask(value)
    try:
        yield
    finally:
        os.umask(before)


def write_everything(folder, made):
    """A file of every writer that makes its own."""
    scan = cv.read_volume(made / "scan.nii.gz")
    model = cv.load_model(made / "net.safetensors", device="cpu")
    tree = cv.Hierarchy.load(made / "tree.npz")
    attribution = cv.cam(model, scan, 0)
    for ending in (".nii", ".nii.gz", ".mgz"):
        attribution.save(folder / f"map{ending[1:]}{ending}")
    cv.save_model(model, folder / "net.safetensors")
    tree.save(folder / "tree.npz")
    write_levels(tree, folder / "levels.nii.gz", scan.affine)
    write_levels(tree, folder / "levels.npy")
    write_roi_csv([], folder / "rois.csv")
    for ending in ("png", "svg", "tif"):
        spec = cv.FigureSpec(width_mm=30, dpi=50)
        cv.write_figure(scan, attribution, spec, folder / f"{ending}.{ending}")
    cv.trust_report(model, scan, attribution, tests=["edges"]).save(folder / "report")
    with atomic_path(folder / "plain") as temporary:
        temporary.unlink()  # as safetensors does
        temporary.write_text("x")


@pytest.mark.parametrize("mask", [0o022, 0o002, 0o077, 0o027])
def test_files_have_the_rights_of_any_new_file(made, tmp_path, mask):
    with umask(mask):
        write_everything(tmp_path, made)
        remember("abc", Recipe())
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 15
    assert {oct(path.stat().st_mode & 0o777) for path in files} == {oct(0o666 & ~mask)}


def test_a_message_of_an_input_is_of_one_kind(tmp_path):
    with pytest.raises(CnnVisError, match="no folder"):
        check_output(tmp_path / "none" / "map.nii")
