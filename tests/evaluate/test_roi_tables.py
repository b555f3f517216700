"""A map in the regions of an atlas."""

import csv

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_cnnvis.errors import MethodError, VolumeError
from napari_cnnvis.evaluate.roi_tables import CSV_COLUMNS, RoiRow, roi_table, write_roi_csv

AFFINE = np.array([[0, -1.2, 0.3, 7], [1.9, 0, 0, -3], [0, 0, 2.8, 11], [0, 0, 0, 1.0]])
VOXEL = 1.9 * 1.2 * 2.8


@st.composite
def maps_with_labels(draw, shape=(4, 3, 5)):
    values = st.integers(-4, 4).map(float)
    map = draw(hnp.arrays(np.float32, shape, elements=values))
    labels = draw(hnp.arrays(np.int32, shape, elements=st.sampled_from([0, 1, 2, 7, 40])))
    labels[0, 0, 0] = 3  # not empty
    return map, labels


def by_loop(map, labels, names):
    """The same table, region by region."""
    rows = []
    for label in sorted(set(labels.ravel().tolist()) - {0}):
        voxels = [v for v in np.ndindex(map.shape) if labels[v] == label]
        values = [float(map[v]) for v in voxels]
        strongest = max(range(len(values)), key=lambda i: (abs(values[i]), -i))
        positive = sum(float(x) for x in map.ravel() if x > 0)
        negative = sum(float(-x) for x in map.ravel() if x < 0)
        rows.append(
            {
                "label": label,
                "name": names.get(label, ""),
                "volume_mm3": len(voxels) * VOXEL,
                "mean": sum(values) / len(values),
                "share_of_positive_mass": sum(x for x in values if x > 0) / (positive or 1),
                "share_of_negative_mass": sum(-x for x in values if x < 0) / (negative or 1),
                "peak": values[strongest],
                "peak_mm": (AFFINE @ [*voxels[strongest], 1])[:3],
            }
        )
    for row in rows:
        row["rank"] = 1 + sum(other["mean"] > row["mean"] for other in rows)
    return sorted(rows, key=lambda row: (row["rank"], row["label"]))


@given(maps_with_labels())
def test_table_equals_a_plain_loop(case):
    map, labels = case
    names = {1: "thalamus", 40: "amygdala"}
    rows = roi_table(map, labels, names, affine=AFFINE)
    expected = by_loop(map, labels, names)
    assert len(rows) == len(expected)
    for row, wanted in zip(rows, expected, strict=True):
        for key, value in wanted.items():
            if isinstance(value, str | int):
                assert getattr(row, key) == value
            else:
                np.testing.assert_allclose(getattr(row, key), value, rtol=1e-9, atol=1e-12)


@given(maps_with_labels())
def test_shares_add_up_to_the_labelled_mass(case):
    map, labels = case
    rows = roi_table(map, np.where(labels == 0, 5, labels), affine=AFFINE)
    for side, share in ((1, "share_of_positive_mass"), (-1, "share_of_negative_mass")):
        total = sum(getattr(row, share) for row in rows)
        assert total == pytest.approx(1.0 if (side * map > 0).any() else 0.0)


def test_huge_and_negative_labels_are_labels_too():
    map = np.arange(8, dtype=float).reshape(2, 2, 2)
    labels = np.array([0, 2_000_000_000, -5, -5, 0, 2_000_000_000, 1, 1]).reshape(2, 2, 2)
    rows = roi_table(map, labels, {-5: "odd"}, affine=np.eye(4))
    assert [(r.label, r.mean, r.name) for r in rows] == [
        (1, 6.5, ""),
        (2_000_000_000, 3.0, ""),
        (-5, 2.5, "odd"),
    ]


def test_a_mask_is_one_region():
    map = np.ones((2, 2, 2))
    (row,) = roi_table(map, map > 0, affine=np.diag([2, 2, 2, 1]))
    assert (row.label, row.share_of_positive_mass) == (1, 1)
    assert row.volume_mm3 == pytest.approx(64)


@pytest.mark.parametrize(
    ("labels", "about"),
    [
        (np.ones((2, 2, 3), int), "the same grid"),
        (np.ones((2, 2, 2)), "integers"),
        (np.zeros((2, 2, 2), int), "no region"),
    ],
)
def test_errors_are_plain(labels, about, plain):
    with pytest.raises(MethodError) as error:
        roi_table(np.zeros((2, 2, 2)), labels, affine=np.eye(4))
    plain(error.value, about)


NAMES = ['Left "Thalamus", proper', "Hippokampus ä 海馬", "=SUM(A1)", "two\nlines", ""]


def test_csv_holds_every_digit_and_any_name(tmp_path):
    rng = np.random.default_rng(0)
    rows = [
        RoiRow(i - 1, name, *rng.normal(size=5).tolist(), tuple(rng.normal(size=3).tolist()), i)
        for i, name in enumerate(NAMES, 1)
    ]
    path = write_roi_csv(rows, tmp_path / "table.csv")
    with path.open(newline="", encoding="utf-8") as file:
        header, *lines = csv.reader(file)
    assert tuple(header) == CSV_COLUMNS
    read = []
    for line in lines:
        f = dict(zip(header, line, strict=True))
        place = tuple(float(f[f"peak_{a}_mm"]) for a in "xyz")
        shares = float(f["share_of_positive_mass"]), float(f["share_of_negative_mass"])
        numbers = float(f["volume_mm3"]), float(f["mean"]), *shares, float(f["peak"])
        read.append(RoiRow(int(f["label"]), f["name"], *numbers, place, int(f["rank"])))
    assert read == rows
    assert [p.name for p in tmp_path.iterdir()] == ["table.csv"]


def test_csv_into_no_folder_is_a_plain_error(tmp_path, plain):
    path = tmp_path / "nowhere" / "table.csv"
    with pytest.raises(VolumeError) as error:
        write_roi_csv([], path)
    plain(error.value, "nowhere")


def test_a_csv_that_fails_leaves_the_old_one(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("old")
    with pytest.raises(AttributeError):
        write_roi_csv([None], path, overwrite=True)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["table.csv"]
