import numpy as np
import pytest

from napari_cnnvis.errors import VolumeError
from napari_cnnvis.training.study import StudyProblems, read_study

from .conftest import read_rows, write_rows


def test_classes_follow_the_order_that_was_asked_for(study_table):
    study = read_study(study_table, ["NC", "AD"])
    assert study.labels == [n % 2 for n in range(24)]
    assert read_study(study_table).class_names == ("AD", "NC")
    assert len(set(study.subjects)) == 24


def test_every_bad_row_is_named_at_once(study_table):
    rows = read_rows(study_table)
    rows[1]["Path"] = "gone.nii.gz"
    rows[2]["Label"] = "ad"
    rows[3]["Label"] = ""
    rows[5]["Path"] = rows[4]["Path"]
    rows[6]["Path"] = ""
    write_rows(study_table, rows)
    with pytest.raises(StudyProblems) as caught:
        read_study(study_table, ["NC", "AD"])
    assert [row for row, _ in caught.value.problems] == [3, 4, 5, 7, 8]
    text = str(caught.value)
    for part in ("missing file", "unknown label 'ad'", "no label", "same file as row 6", "no path"):
        assert part in text


def test_rows_of_other_classes_are_left_out_on_request(study_table):
    rows = read_rows(study_table)
    for row in rows[:4]:
        row["Label"] = "MCI"
    write_rows(study_table, rows)
    with pytest.raises(StudyProblems):
        read_study(study_table, ["NC", "AD"])
    study = read_study(study_table, ["NC", "AD"], skip_other_labels=True)
    assert (len(study.scans), study.left_out) == (20, 4)


def test_a_session_occurs_once(study_table):
    rows = read_rows(study_table)
    for number, row in enumerate(rows):
        row["Subject"], row["Session"] = f"s{number // 2}", str(number % 2)
        row["Label"] = "NC" if number < 12 else "AD"
    write_rows(study_table, rows)
    assert len(set(read_study(study_table, ["NC", "AD"]).subjects)) == 12
    rows[9]["Session"] = "0"
    write_rows(study_table, rows)
    with pytest.raises(StudyProblems, match="duplicate subject s4, session 0"):
        read_study(study_table, ["NC", "AD"])


@pytest.mark.parametrize(
    ("classes", "text"),
    [(["NC"], "at least two"), (["NC", "NC"], "different"), (["AD", "NC", "MCI"], "class MCI")],
)
def test_classes_that_cannot_be_told_apart(study_table, classes, text):
    with pytest.raises(VolumeError, match=text):
        read_study(study_table, classes)


def test_a_table_without_labels(tmp_path):
    table = tmp_path / "t.csv"
    table.write_text("Path\na.nii.gz\n")
    with pytest.raises(VolumeError, match="no column 'Label'"):
        read_study(table)


def test_many_problems_are_summed_up(tmp_path):
    table = tmp_path / "t.csv"
    table.write_text("Path,Label\n" + "".join(f"{n}.nii,{'ab'[n % 2]}\n" for n in range(50)))
    with pytest.raises(StudyProblems, match="50 rows") as caught:
        read_study(table)
    assert "and 20 more" in str(caught.value)
    assert np.all(np.diff([row for row, _ in caught.value.problems]) > 0)
