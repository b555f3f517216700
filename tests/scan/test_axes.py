"""Axes of length one, volumes of a 4D file, and what the errors advise."""

import re

import nibabel as nib
import numpy as np
import pytest

import napari_cnnvis as cv
from napari_cnnvis._napari.contributions import read_scans
from napari_cnnvis.atlas.rois import read_rois
from napari_cnnvis.cli import main
from napari_cnnvis.cohort.finding import find_scans
from napari_cnnvis.cohort.keys import scan_hash
from napari_cnnvis.cohort.run import read_scan
from napari_cnnvis.errors import VolumeError
from napari_cnnvis.training.grids import read_grid
from napari_cnnvis.ucm.files import read_levels

SHAPE = (6, 7, 5)
DATA = np.random.default_rng(0).random((*SHAPE, 3), dtype=np.float32)
ONE, AFFINE = DATA[..., 1], np.diag([1.5, 2, 2.5, 1])
#: where axes of length one are, in a file with one volume
SINGLE = {
    "last": ONE[..., None],
    "last two": ONE[..., None, None],
    "last four": ONE[..., None, None, None, None],
    "first": ONE[None],
    "first two": ONE[None, None],
    "second": ONE[:, None],
    "third": ONE[:, :, None],
    "first and last": ONE[None, ..., None],
}
#: n volumes
SEVERAL = {
    "4D": DATA,
    "vector": DATA[:, :, :, None],
    "vector of vectors": DATA[:, :, :, None, None],
    "last after volumes": DATA[..., None],
    "series of vectors": np.stack([DATA, DATA + 1], axis=-1),
}


def saved(path, data, affine=AFFINE):
    nib.save(nib.Nifti1Image(data, affine), path)
    return path


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
@pytest.mark.parametrize("kind", SINGLE)
def test_one_volume_is_read_wherever_its_axes_of_length_one_are(tmp_path, kind, ending):
    path = saved(tmp_path / f"a{ending}", SINGLE[kind])
    for index in (None, 0):
        volume = cv.read_volume(path, index=index)
        np.testing.assert_array_equal(volume.data, ONE)
        np.testing.assert_array_equal(volume.affine, AFFINE)
        told = [f"a{ending} has the shape" in note for note in volume.notes]
        assert told == ([] if kind.startswith("last") else [True])
    assert read_grid(path).shape == SHAPE
    again = cv.read_volume(cv.write_volume(volume, tmp_path / "out.nii"))
    np.testing.assert_array_equal(again.data, ONE)
    np.testing.assert_allclose(again.affine, AFFINE)


@pytest.mark.parametrize("kind", SINGLE)
def test_the_only_volume_has_the_number_0(tmp_path, plain, kind):
    path = saved(tmp_path / "a.nii", SINGLE[kind])
    with pytest.raises(VolumeError) as caught:
        cv.read_volume(path, index=1)
    assert "one volume, number 0" in plain(caught.value, path)


@pytest.mark.parametrize("kind", SEVERAL)
def test_each_of_several_volumes_can_be_chosen_as_the_error_advises(tmp_path, plain, kind):
    data = SEVERAL[kind]
    flat = data.reshape(*data.shape[:3], -1, order="F")
    path = saved(tmp_path / "run.nii.gz", data)
    with pytest.raises(VolumeError) as caught:
        cv.read_volume(path)
    text = plain(caught.value, path)
    assert f"holds {flat.shape[3]} volumes" in text
    advised = re.search(r"run\.nii\.gz#0", text)[0]
    assert "read_volume(path, index=0)" in text
    by_name = cv.read_volume(tmp_path / advised)
    by_number = cv.read_volume(path, index=0)
    np.testing.assert_array_equal(by_name.data, flat[..., 0])
    np.testing.assert_array_equal(by_number.data, flat[..., 0])
    assert by_name.source == by_number.source == f"{path}#0"
    for number in range(flat.shape[3]):
        volume = cv.read_volume(f"{path}#{number}")
        np.testing.assert_array_equal(volume.data, flat[..., number])
    with pytest.raises(VolumeError, match=f"0 to {number}"):
        cv.read_volume(f"{path}#{number + 1}")


@pytest.mark.parametrize("shape", [(1, 2, *SHAPE), (1, *SHAPE, 2)])
def test_channels_before_space_say_how_to_save_them(tmp_path, plain, shape):
    path = saved(tmp_path / "a.nii", np.ones(shape, np.float32))
    for read in (cv.read_volume, read_rois):
        with pytest.raises(VolumeError) as caught:
            read(path)
        assert "i x j x k x channels" in plain(caught.value, path)


@pytest.mark.parametrize("kind", SINGLE)
def test_labels_and_levels_have_their_axes_found_too(tmp_path, kind):
    labels = (SINGLE[kind] * 4).astype(np.int16)
    path = saved(tmp_path / "labels.nii", labels)
    np.testing.assert_array_equal(read_rois(path).labels, (ONE * 4).astype(int))
    (level,) = read_levels(path)
    np.testing.assert_array_equal(level, (ONE * 4).astype(int))


def test_a_name_that_ends_in_a_number_is_a_name(tmp_path):
    path = saved(tmp_path / "a.nii", ONE).rename(tmp_path / "scan.nii#2")
    np.testing.assert_array_equal(cv.read_volume(path).data, ONE)


def test_a_table_lists_volumes_of_one_file(tmp_path):
    path = saved(tmp_path / "run.nii.gz", DATA)
    (tmp_path / "study.csv").write_text(
        "Path,Label\nrun.nii.gz#0,AD\nrun.nii.gz#2,NC\nno.nii#1,NC\n"
    )
    entries = find_scans(tmp_path / "study.csv")
    assert [(e.name, e.problem) for e in entries] == [
        ("run#0", ""),
        ("run#2", ""),
        ("no#1", "missing file"),
    ]
    for entry, number in zip(entries, (0, 2), strict=False):
        np.testing.assert_array_equal(read_scan(entry).data, DATA[..., number])
        assert read_grid(entry.path).shape == SHAPE
    hashes = {scan_hash(e.path) for e in entries[:2]} | {scan_hash(path)}
    assert len(hashes) == 3


def test_the_command_line_takes_a_volume_and_never_writes_over_its_file(tmp_path, capsys):
    big = np.random.default_rng(1).random((12, 12, 12, 2), dtype=np.float32)
    path = saved(tmp_path / "run.nii.gz", big)
    before = path.read_bytes()
    assert main(["supervoxels", str(path), "-o", str(tmp_path / "a.npz")]) == 2
    assert "run.nii.gz#0" in capsys.readouterr().err
    assert main(["supervoxels", f"{path}#1", "-o", str(tmp_path / "a.npz")]) == 0
    assert main(["supervoxels", f"{path}#1", "-o", str(path), "--overwrite"]) == 2
    assert "is an input" in capsys.readouterr().err
    assert path.read_bytes() == before


def test_napari_opens_each_volume_as_a_layer(tmp_path):
    path = saved(tmp_path / "run.nii", DATA)
    layers = read_scans(str(path))
    assert [arguments["name"] for _, arguments, _ in layers] == ["run#0", "run#1", "run#2"]
    for number, (data, _, _) in enumerate(layers):
        assert np.sort(data, axis=None).tolist() == np.sort(DATA[..., number], axis=None).tolist()


def test_napari_opens_no_more_layers_than_anybody_wants(tmp_path, plain):
    path = saved(tmp_path / "run.nii", np.ones((2, 2, 2, 40), np.float32))
    with pytest.raises(VolumeError) as caught:
        read_scans(str(path))
    assert "40 volumes" in plain(caught.value, path)
