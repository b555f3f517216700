"""The table of scans with a truth."""

import numpy as np
import pytest

from napari_cnnvis.errors import VolumeError
from napari_cnnvis.evaluate.benchmark.table import TRUTH, read_benchmark_table

from .planted import ROIS, SHAPE, write


def test_table_gives_what_has_a_truth(study):
    scans, left_out = read_benchmark_table(study / "table.csv")
    assert [scan.entry.name for scan in scans] == ["p0", "p1"]
    assert (scans[0].entry.label, scans[0].entry.subject) == ("AD", "s0")
    assert left_out == 1
    assert len(read_benchmark_table(study / "table.csv", limit=1)[0]) == 1
    read = scans[0].read(ROIS)
    assert list(read.regions) == [TRUTH, "left", "both"]
    np.testing.assert_array_equal(read.inside, read.volume.data > 0)
    assert not (read.regions["left"] & ~read.inside).any()


def test_a_mask_says_what_counts(study):
    inside = np.zeros(SHAPE)
    inside[4:12, 4:12, 4:12] = 1
    write(inside, study / "inside.nii.gz")
    (study / "inside.csv").write_text(
        "Path,Truth,Inside\np0.nii.gz,p0_truth.nii.gz,inside.nii.gz\n"
    )
    read = read_benchmark_table(study / "inside.csv")[0][0].read({})
    np.testing.assert_array_equal(read.inside, inside > 0)


def test_every_bad_row_is_listed_at_once(study, plain):
    write(np.ones((4, 4, 4)), study / "small.nii.gz")
    write(np.zeros(SHAPE), study / "empty.nii.gz")
    write(np.ones(SHAPE), study / "full.nii.gz")
    good = "p0.nii.gz,p0_truth.nii.gz,p0_rois.nii.gz"
    rows = [
        good,
        "gone.nii.gz,p0_truth.nii.gz,p0_rois.nii.gz",
        "p0.nii.gz,gone.nii.gz,p0_rois.nii.gz",
        "p0.nii.gz,small.nii.gz,p0_rois.nii.gz",
        "p0.nii.gz,empty.nii.gz,p0_rois.nii.gz",
        "p0.nii.gz,full.nii.gz,p0_rois.nii.gz",
        "p0.nii.gz,p0_truth.nii.gz,",
        "p0.nii.gz,p0_truth.nii.gz,p0.nii.gz",
        "p0.nii.gz,p0_truth.nii.gz,empty.nii.gz",
        good,
    ]
    (study / "bad.csv").write_text("\n".join(["Path,Truth,Rois", *rows]))
    with pytest.raises(VolumeError) as caught:
        read_benchmark_table(study / "bad.csv", {"left": (3,)})
    text = plain(caught.value, "bad.csv")
    assert text.startswith("8 row(s)")
    for part in (
        "row 3 (gone): missing file;",
        "row 4",
        "There is no file",
        "small.nii.gz (4 x 4 x 4 voxels) is not on the grid of the scan (16 x 17 x 15)",
        "row 6 (p0): the region 'truth' has no voxel",
        "row 7 (p0): the region 'truth' fills the whole brain",
        "row 8 (p0): the column Rois is empty",
        "row 9 (p0): p0.nii.gz holds numbers that are not whole",
        "row 10 (p0): the region 'left' has no voxel",
    ):
        assert part in text
    assert len(read_benchmark_table(study / "bad.csv", limit=1)[0]) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Path\np0.nii.gz\n", "no column 'Truth'"),
        ("Truth\np0_truth.nii.gz\n", "no column 'Path'"),
        ("Path,Truth\np0.nii.gz,\n", "no row with a file in the column 'Truth'"),
        ("Path,Truth\n", "no rows|no row"),
    ],
)
def test_a_table_without_truths_is_refused(study, plain, text, message):
    (study / "other.csv").write_text(text)
    with pytest.raises(VolumeError, match=message) as caught:
        read_benchmark_table(study / "other.csv")
    plain(caught.value, "other.csv")
    with pytest.raises(VolumeError, match="is not a table"):
        read_benchmark_table(study / "nothing.csv")
