"""What headers say: units, sides, sizes; and what is read of files that are none."""

import gzip
import os
import socket
import struct
import time
import zipfile

import nibabel as nib
import numpy as np
import psutil
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import napari_cnnvis as cv
from napari_cnnvis.atlas.lookup_tables import read_lookup_table
from napari_cnnvis.atlas.rois import read_rois, rois_on
from napari_cnnvis.cli import main
from napari_cnnvis.cohort.tables import read_rows
from napari_cnnvis.errors import CnnVisError, VolumeError, shortened
from napari_cnnvis.models.networks.vox import VoxResNetGAP
from napari_cnnvis.models.settings import file_hash
from napari_cnnvis.scan.conform import conform
from napari_cnnvis.scan.headers import check_extensions
from napari_cnnvis.training.grids import read_grid
from napari_cnnvis.ucm.files import read_levels, write_levels

UNITS = {"mm": 1.0, "micron": 1000.0, "meter": 0.001, "unknown": 1.0}
SHAPE = (10, 12, 9)
AFFINE = np.array([[0, -1.2, 0, 40.5], [0.8, 0, 0, -33.25], [0, 0, 2.5, 7.125], [0, 0, 0, 1]])


def scan_file(path, unit="mm", affine=AFFINE, data=None, kind=nib.Nifti1Image, codes=(1, 1)):
    if data is None:
        data = np.random.default_rng(0).random(SHAPE, dtype=np.float32)
    stored = affine.copy()
    stored[:3] *= UNITS[unit]
    image = kind(data, stored)
    image.header.set_xyzt_units(unit)
    image.set_sform(stored, code=codes[0])
    image.set_qform(stored, code=codes[1])
    image.to_filename(path)
    return path


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("codes", [(1, 1), (1, 0), (0, 1)])
@pytest.mark.parametrize("unit", UNITS)
def test_a_scan_lies_where_it_lies_whatever_its_unit(tmp_path, unit, codes, kind):
    volume = cv.read_volume(scan_file(tmp_path / "a.nii", unit, kind=kind, codes=codes))
    np.testing.assert_allclose(volume.affine, AFFINE, atol=1e-4)
    assert volume.notes == ()
    assert read_grid(tmp_path / "a.nii").spacing == (1.2, 0.8, 2.5)


@pytest.mark.parametrize("unit", UNITS)
def test_a_saved_map_says_what_its_scan_says(tmp_path, unit):
    path = scan_file(tmp_path / "a.nii", unit)
    before = nib.load(path)
    volume = cv.read_volume(path)
    after = nib.load(cv.write_volume(volume, tmp_path / "b.nii.gz"))
    assert int(after.header["xyzt_units"]) == int(before.header["xyzt_units"])
    for form in ("get_sform", "get_qform"):
        pairs = (getattr(image, form)(coded=True) for image in (before, after))
        (one, code), (other, same_code) = pairs
        assert code == same_code == 1
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(before.header["pixdim"], after.header["pixdim"])
    assert cv.read_volume(tmp_path / "b.nii.gz").same_grid(volume)


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("orientation", ["RAS", "SPL"])
def test_turned_volumes_stay_where_they_are(tmp_path, unit, orientation):
    turned = cv.read_volume(scan_file(tmp_path / "a.nii", unit)).reoriented(orientation)
    again = cv.read_volume(cv.write_volume(turned, tmp_path / "b.nii"))
    np.testing.assert_allclose(again.affine, turned.affine, atol=1e-4)
    image = nib.load(tmp_path / "b.nii")
    np.testing.assert_allclose(image.affine[:3], turned.affine[:3] * UNITS[unit], rtol=1e-4, atol=1e-3)  # fmt: skip


@given(
    spacing=st.tuples(*[st.floats(0.1, 20)] * 3),
    origin=st.tuples(*[st.floats(-300, 300)] * 3),
    unit=st.sampled_from(["micron", "meter"]),
)
def test_any_grid_comes_back(tmp_path_factory, spacing, origin, unit):
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = origin
    folder = tmp_path_factory.mktemp("grid")
    volume = cv.read_volume(scan_file(folder / "a.nii", unit, affine))
    np.testing.assert_allclose(volume.affine, affine, rtol=1e-5, atol=1e-3)
    again = cv.read_volume(cv.write_volume(volume, folder / "b.nii"))
    np.testing.assert_array_equal(again.affine, volume.affine)


def test_labels_and_scans_of_other_units_fit(tmp_path):
    scan = cv.read_volume(scan_file(tmp_path / "scan.nii", "meter"))
    labels = np.zeros(SHAPE, np.float32)
    labels[:5], labels[5:] = 1, 2
    rois = read_rois(scan_file(tmp_path / "atlas.nii", "micron", data=labels))
    np.testing.assert_array_equal(rois_on(rois, scan).labels, labels)
    tree = cv.Hierarchy.from_levels([labels.astype(int)])
    write_levels(tree, tmp_path / "levels.nii", scan.affine)
    assert cv.read_volume(tmp_path / "levels.nii").same_grid(scan)


@pytest.mark.parametrize(
    ("unit", "spacing"), [("meter", 2.0), ("micron", 0.002), ("mm", 0.002), ("mm", 2000), ("unknown", 0.002)]
)  # fmt: skip
def test_impossible_voxels_are_refused(tmp_path, plain, unit, spacing):
    affine = np.diag([spacing / UNITS[unit]] * 3 + [1.0])
    scan_file(tmp_path / "a.nii", unit, affine * 1000 if unit == "meter" else affine)
    with pytest.raises(VolumeError) as error:
        cv.read_volume(tmp_path / "a.nii")
    text = plain(error.value, "a.nii")
    assert "unit" in text
    assert "set_xyzt_units" in text


def test_sides_that_disagree_are_said(tmp_path):
    path = scan_file(tmp_path / "a.nii")
    image = nib.load(path)
    data = image.get_fdata(dtype=np.float32).copy()
    mirrored = image.affine.copy()
    mirrored[0] *= -1
    for form, said in ((image.affine, False), (mirrored, True)):
        changed = nib.Nifti1Image(data, image.affine)
        changed.set_sform(image.affine, code=1)
        changed.set_qform(form, code=1)
        changed.to_filename(path)
        notes = cv.read_volume(path).notes
        assert [("left and right" in note, "qform" in note) for note in notes] == [
            (True, True)
        ] * said
    changed.set_qform(mirrored, code=0)
    changed.to_filename(path)
    assert cv.read_volume(path).notes == ()


# scans without content


CONTENTS = {
    "zero": np.zeros(SHAPE),
    "constant": np.full(SHAPE, 7.0),
    "nan": np.full(SHAPE, np.nan),
    "negative": np.full(SHAPE, -3.0),
}


@pytest.fixture(scope="module")
def net(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("net") / "net.safetensors"
    return cv.save_model(VoxResNetGAP(), path, ["a", "b"], cv.InputSpec())


@pytest.mark.parametrize("what", CONTENTS)
def test_a_scan_without_content_is_said(tmp_path, net, what):
    scan = cv.read_volume(scan_file(tmp_path / "a.nii", data=CONTENTS[what].astype(np.float32)))
    model = cv.load_model(net, device="cpu")
    for notes in (
        scan.notes,
        model.conform(scan).notes,
        cv.cam(model, scan, 0).notes,
        cv.grad_cam(model, scan, 0).notes,
    ):
        assert sum("same value everywhere" in note for note in notes) == 1


def test_what_is_lost_on_the_way_to_the_network_is_said():
    data = np.zeros((40, 40, 40), np.float32)
    data[0, 0, 0] = 1
    scan = cv.Volume(data, np.eye(4))
    assert scan.notes == ()
    spec = cv.InputSpec(shape=(10, 10, 10))
    (lost, empty) = conform(scan, spec).notes  # fmt: skip
    assert "outside" in lost
    assert "What the model sees" in empty


@pytest.mark.parametrize("command", ["explain", "info", "info --json", "trust"])
def test_every_command_says_it_once(tmp_path, net, capsys, command):
    path = str(scan_file(tmp_path / "a.nii", data=np.zeros((16, 16, 16), np.float32)))
    name, *options = command.split()
    if name == "info":
        arguments = [str(net), "--scan", path]
    else:
        arguments = [path, "--model", str(net), "--method", "cam", "-o", str(tmp_path / "map.nii")]
    if name == "trust":
        arguments[-1] = str(tmp_path / "report")
        options += ["--tests", "edges"]
    assert main([name, *arguments, *options, "--device", "cpu"]) == 0
    said = capsys.readouterr()
    assert (said.out + said.err).count("note: The scan is the same value everywhere (0)") == 1


# files that are none, or too much


def pipe(path):
    os.mkfifo(path)


def device(path):
    path.symlink_to("/dev/zero")


def local_socket(path):
    here = os.getcwd()
    os.chdir(path.parent)  # their names have to be short
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(here)


READERS = {
    "a.nii": cv.read_volume,
    "b.nii.gz": cv.read_volume,
    "c.safetensors": lambda p: cv.load_model(p, device="cpu"),
    "d.pt": lambda p: cv.load_model(p, device="cpu"),
    "e.zip": file_hash,
    "f.npz": cv.Hierarchy.load,
    "g.npy": read_levels,
    "h.nii": read_levels,
    "i.txt": read_lookup_table,
    "j.csv": lambda p: read_rows(p, "path"),
}  # fmt: skip


@pytest.mark.parametrize("make", [pipe, device, local_socket])
@pytest.mark.parametrize("name", READERS)
def test_what_is_no_file_is_refused_at_once(tmp_path, plain, name, make):
    path = tmp_path / name
    make(path)
    start = time.process_time()
    with pytest.raises(CnnVisError) as error:
        READERS[name](path)
    assert "; choose " in plain(error.value, name)
    assert time.process_time() - start < 2


def test_a_map_whose_json_is_a_pipe_is_refused(tmp_path, plain):
    scan_file(tmp_path / "map.nii")
    os.mkfifo(tmp_path / "map.json")
    with pytest.raises(VolumeError) as error:
        cv.Attribution.load(tmp_path / "map.nii")
    plain(error.value, "map.json")


def with_dimensions(path, *shape, packed=True):
    header = nib.Nifti2Header() if max(shape) > 32767 else nib.Nifti1Header()
    header.set_data_dtype(np.float32)
    header.set_data_shape(shape)
    header["magic"] = header["magic"]
    content = header.binaryblock + b"\0" * 100_000
    path.write_bytes(gzip.compress(content) if packed else content)


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize(
    "shape", [(1200, 1200, 1200), (32000, 32000, 32000), (10**6, 10**6, 10**6)]
)
def test_headers_that_ask_for_too_much_are_refused(tmp_path, plain, shape, packed):
    path = tmp_path / ("a.nii.gz" if packed else "a.nii")
    with_dimensions(path, *shape, packed=packed)
    with pytest.raises(VolumeError) as error:
        cv.read_volume(path)
    plain(error.value, path.name)


def test_a_scan_that_does_not_fit_into_the_memory_is_refused(tmp_path, plain, monkeypatch):
    scan_file(tmp_path / "a.nii")
    memory = psutil.virtual_memory()._replace(available=1000)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    with pytest.raises(VolumeError) as error:
        cv.read_volume(tmp_path / "a.nii")
    assert "memory" in plain(error.value, "a.nii")


def test_memory_that_runs_out_is_a_sentence(tmp_path, plain, monkeypatch):
    def fails(*_):
        raise MemoryError

    scan_file(tmp_path / "a.nii")
    monkeypatch.setattr(nib, "load", fails)
    with pytest.raises(VolumeError) as error:
        cv.read_volume(tmp_path / "a.nii")
    assert "memory" in plain(error.value, "a.nii")


def test_what_follows_the_voxels_has_a_limit(tmp_path, plain):
    scan_file(tmp_path / "a.nii")
    content = (tmp_path / "a.nii").read_bytes()
    (tmp_path / "b.nii.gz").write_bytes(gzip.compress(content + b"\0" * 1000))
    assert cv.read_volume(tmp_path / "b.nii.gz").shape == SHAPE
    (tmp_path / "c.nii.gz").write_bytes(gzip.compress(content) + gzip.compress(b"\0" * 80_000_000))
    with pytest.raises(VolumeError) as error:
        cv.read_volume(tmp_path / "c.nii.gz")
    plain(error.value, "c.nii.gz")


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("packed", [True, False])
def test_what_lies_before_the_voxels_has_a_limit(tmp_path, plain, order, packed):
    path = tmp_path / "a.nii.gz"
    start = struct.pack(f"{order}i", 348) + b"\0" * 344 + b"\1\0\0\0"
    extension = struct.pack(f"{order}ii", 2**31 - 16, 4)
    path.write_bytes(gzip.compress(start + extension) if packed else start + extension)
    with pytest.raises(VolumeError) as error:
        check_extensions(path)
    plain(error.value, "a.nii.gz")
    path.write_bytes(start + struct.pack(f"{order}ii", 32, 4) + b"\0" * 100)
    check_extensions(path)


@pytest.mark.parametrize("read", [cv.Hierarchy.load, read_levels])
def test_an_npz_that_unpacks_to_far_more_is_refused(tmp_path, plain, read):
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("format", "version", "leaves", "parents", "altitudes", "levels"):
            with archive.open(f"{name}.npy", "w") as file:
                for _ in range(25):
                    file.write(b"\0" * (1 << 22))
    start = time.process_time()
    with pytest.raises(VolumeError) as error:
        read(path)
    assert "GB" in plain(error.value, "bomb.npz")
    assert time.process_time() - start < 1


def test_long_texts_are_cut():
    assert shortened("a" * 200) == "a" * 200
    assert len(shortened("a" * 10**6)) == 200
    assert shortened("two\nlines") == "two lines"
