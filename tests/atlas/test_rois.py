"""Atlases: label volumes from files, what their regions are called, and on other grids."""

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import napari_cnnvis as cv
from napari_cnnvis.atlas.rois import Rois, read_rois, rois_on
from napari_cnnvis.errors import VolumeError
from napari_cnnvis.evaluate.roi_tables import roi_table, write_roi_csv

AFFINE = np.array([[-2.0, 0, 0, 30], [0, 2, 0, -40], [0, 0, 2, 5], [0, 0, 0, 1]])


@pytest.fixture
def labels():
    labels = np.zeros((8, 9, 10), np.int16)
    labels[1:3, 1:4, 2:5], labels[5:7, 4:8, 3:9], labels[0, 8, 9] = 17, 53, 1006
    return labels


def save(data, path, affine=AFFINE):
    kind = nib.MGHImage if path.name.endswith(".mgz") else nib.Nifti1Image
    nib.save(kind(data, affine), path)
    return path


@pytest.mark.parametrize("ending", [".nii.gz", ".nii", ".mgz"])
@pytest.mark.parametrize("dtype", [np.int32, np.float32, np.uint8])
def test_label_volumes_are_read_as_they_are(tmp_path, labels, ending, dtype):
    labels[labels == 1006] = 10
    path = save(labels.astype(dtype), tmp_path / f"aseg{ending}")
    rois = read_rois(path)
    assert rois.labels.dtype == np.int32
    np.testing.assert_array_equal(rois.labels, labels)
    np.testing.assert_allclose(rois.affine, AFFINE)
    assert rois.names == {10: "Left-Thalamus", 17: "Left-Hippocampus", 53: "Right-Hippocampus"}
    assert rois.colours[17] == (220, 216, 20)
    assert rois.source == str(path)
    assert rois.notes == ("Names from FreeSurfer's numbers.",)


def test_the_table_that_is_given_counts_before_the_one_beside(tmp_path, labels):
    path = save(labels, tmp_path / "mine.nii.gz")
    assert read_rois(path).names[1006] == "ctx-lh-entorhinal"
    (tmp_path / "mine.txt").write_text("17 beside\n53 beside too\n")
    beside = read_rois(path)
    assert beside.names == {17: "beside", 53: "beside too", 1006: "region 1006"}
    assert beside.notes == ("Names from mine.txt (2 of 3 regions).",)
    (tmp_path / "given.tsv").write_text("index\tname\tcolor\n17\tgiven\t#010203\n")
    given_ = read_rois(path, tmp_path / "given.tsv")
    assert given_.names == {17: "given", 53: "region 53", 1006: "region 1006"}
    assert given_.colours[17] == (1, 2, 3)
    assert set(given_.colours) == {17, 53, 1006}


@pytest.mark.parametrize("text", ["a diary", "1 another\n2 atlas\n"])
def test_a_file_beside_that_is_of_something_else_is_told(tmp_path, labels, text):
    path = save(labels, tmp_path / "scan.nii.gz")
    (tmp_path / "scan.txt").write_text(text)
    rois = read_rois(path)
    assert rois.names[17] == "Left-Hippocampus"
    assert "scan.txt is next to it" in rois.notes[0]


def test_without_any_table_regions_have_their_numbers(tmp_path, labels):
    labels[1, 1, 2] = 1
    rois = read_rois(save(labels, tmp_path / "atlas.nii.gz"))
    assert rois.names == {1: "region 1", 17: "region 17", 53: "region 53", 1006: "region 1006"}
    assert len(set(rois.colours.values())) == 4
    assert all(0 <= c <= 255 for rgb in rois.colours.values() for c in rgb)


def test_negative_and_huge_labels_are_kept(tmp_path, labels):
    data = labels.astype(np.int32)
    data[1, 1, 2], data[1, 1, 3] = -5, 2_000_000_000
    rois = read_rois(save(data, tmp_path / "atlas.nii.gz"))
    np.testing.assert_array_equal(rois.labels, data)
    assert {-5, 2_000_000_000} < set(rois.names)


def test_masks_in_one_4d_file_become_labels(tmp_path, labels):
    masks = np.stack([labels == 17, labels == 53, labels == 1006], axis=3)
    path = save(masks.astype(np.uint8), tmp_path / "masks.nii.gz")
    (tmp_path / "masks.txt").write_text("1 left\n2 right\n3 voxel\n")
    rois = read_rois(path)
    expected = 1 * masks[..., 0] + 2 * masks[..., 1] + 3 * masks[..., 2]
    np.testing.assert_array_equal(rois.labels, expected)
    assert rois.names == {1: "left", 2: "right", 3: "voxel"}
    masks[1, 1, 2:4, 1] = True
    rois = read_rois(save(masks.astype(np.float32), path))
    np.testing.assert_array_equal(rois.labels, expected)
    assert rois.notes[0].startswith("2 voxels are in more than one mask of masks.nii.gz")


def bad(labels):
    rng = np.random.default_rng(0)
    colours = np.zeros(labels.shape, [("R", "u1"), ("G", "u1"), ("B", "u1")])
    return {
        "whole numbers": rng.normal(size=labels.shape).astype(np.float32) * 100,
        "probabilities": rng.random(labels.shape).astype(np.float32),
        "no region": np.zeros_like(labels),
        "several labels": np.stack([labels, labels], axis=3),
        "shape": np.zeros((5, 6), np.int16),
        "colours": colours,
        "renumber": np.full(labels.shape, 3e10),
        "seems to be a scan": np.arange(30_000, dtype=np.int32).reshape(30, 40, 25),
    }


@pytest.mark.parametrize("what", bad(np.zeros((8, 9, 10), np.int16)))
def test_what_is_no_label_volume_is_one_plain_sentence(tmp_path, labels, plain, what):
    path = save(bad(labels)[what], tmp_path / "file.nii.gz")
    with pytest.raises(VolumeError) as error:
        read_rois(path)
    assert what in plain(error.value, "file.nii.gz")


def test_missing_and_damaged_files_are_refused(tmp_path, labels, plain):
    path = save(labels, tmp_path / "atlas.nii.gz")
    (tmp_path / "half.nii.gz").write_bytes(path.read_bytes()[:60])
    for name in ("half.nii.gz", "nowhere.nii.gz"):
        with pytest.raises(VolumeError) as error:
            read_rois(tmp_path / name)
        plain(error.value, name)
    with pytest.raises(VolumeError):
        read_rois(path, tmp_path / "nowhere.txt")


# --- on another grid --------------------------------------------------------------------


@pytest.fixture
def rois(labels):
    there = [17, 53, 1006]
    return Rois(
        labels.astype(np.int32),
        AFFINE,
        {n: f"region {n}" for n in there},
        {n: (1, 2, 3) for n in there},
        "atlas.nii.gz",
    )


def test_on_its_own_grid_it_is_an_exact_copy(rois):
    on = rois_on(rois, cv.Volume(np.zeros(rois.labels.shape), AFFINE))
    np.testing.assert_array_equal(on.labels, rois.labels)
    assert on.labels is not rois.labels
    assert on.names == rois.names


@settings(max_examples=20)
@given(st.sampled_from(["RAS", "LPI", "SAR", "PIR", "AIL"]))
def test_other_axes_move_no_voxel(orientation):
    labels = np.random.default_rng(1).integers(0, 5, (6, 7, 8)).astype(np.int32)
    stored = cv.Volume(labels.astype(np.float32), AFFINE)
    turned = stored.reoriented(orientation)
    on = rois_on(Rois(labels, AFFINE, dict.fromkeys(range(1, 5), "x"), {}), turned)
    np.testing.assert_array_equal(on.labels, turned.data)
    np.testing.assert_array_equal(on.affine, turned.affine)


def test_each_voxel_gets_the_nearest_label():
    labels = np.zeros((4, 4, 4), np.int32)
    labels[0], labels[3] = 1, 2
    fine = np.diag([0.5, 1, 1, 1])
    fine[0, 3] = -0.25
    on = rois_on(
        Rois(labels, np.eye(4), {1: "a", 2: "b"}, {}), cv.Volume(np.zeros((8, 4, 4)), fine)
    )
    np.testing.assert_array_equal(on.labels[:, 0, 0], [1, 1, 0, 0, 0, 0, 2, 2])


def test_regions_that_are_lost_are_told(rois):
    coarse = AFFINE @ np.diag([3, 3, 3, 1])
    on = rois_on(rois, cv.Volume(np.zeros((3, 3, 3)), coarse))
    assert set(on.names) == set(np.unique(on.labels)) - {0} == set(on.colours)
    assert f"{3 - len(on.names)} of its regions" in on.notes[-1]
    assert 0 < len(on.names) < 3


def test_an_atlas_of_another_place_is_refused(rois, plain):
    away = AFFINE.copy()
    away[0, 3] += 500
    with pytest.raises(VolumeError) as error:
        rois_on(rois, cv.Volume(np.zeros((8, 9, 10)), away))
    assert "the same space" in plain(error.value, "atlas.nii.gz")


def test_where_the_place_is_unknown_only_the_same_shape_fits(rois, plain):
    unknown = cv.Volume(np.zeros((8, 9, 10)), np.eye(4), "layer", orientation_known=False)
    np.testing.assert_array_equal(rois_on(rois, unknown).labels, rois.labels)
    with pytest.raises(VolumeError) as error:
        rois_on(rois, cv.Volume(np.zeros((8, 9, 11)), np.eye(4), "layer", orientation_known=False))
    plain(error.value, "layer")


def test_the_table_of_a_map_has_the_names(tmp_path, rois):
    values = np.random.default_rng(0).random(rois.labels.shape).astype(np.float32)
    rows = roi_table(values, rois.labels, rois.names, affine=rois.affine)
    assert {row.label: row.name for row in rows} == rois.names
    text = write_roi_csv(rows, tmp_path / "t.csv").read_text()
    assert "region 17" in text
