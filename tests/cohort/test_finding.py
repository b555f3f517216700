"""Which scans folders, BIDS trees and tables stand for."""

import csv
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_cnnvis.cohort.entries import MISSING, ScanEntry, in_natural_order, stem
from napari_cnnvis.cohort.finding import find_scans
from napari_cnnvis.errors import VolumeError


def touch(*paths):
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def facts(entries):
    return [(e.name, e.label, e.subject, e.problem) for e in entries]


def table(path, text, encoding="utf-8"):
    path.write_bytes(text.encode(encoding))
    return path


# --- folders -----------------------------------------------------------------------------


def test_a_folder_gives_its_scans_and_those_below_in_natural_order(tmp_path):
    touch(*(tmp_path / n for n in ("s10.nii.gz", "s2.nii", "deep/er/s1.mgz", "x.mgh", "p.img")))
    touch(tmp_path / "p.hdr", tmp_path / "notes.txt", tmp_path / ".hidden.nii")
    touch(tmp_path / ".git" / "a.nii", tmp_path / "S3.NII.GZ")
    found = find_scans(tmp_path)
    assert [e.name for e in found] == ["p", "s1", "s2", "S3", "s10", "x"]
    assert [e.path for e in found][1] == tmp_path / "deep/er/s1.mgz"
    assert {e.problem for e in found} == {""}


def test_files_of_one_name_are_told_apart_by_their_folders(tmp_path):
    touch(tmp_path / "ad/1/T1.nii.gz", tmp_path / "cn/1/T1.nii.gz", tmp_path / "other.nii")
    assert [e.name for e in find_scans(tmp_path)] == ["ad/1/T1", "cn/1/T1", "other"]


def test_a_bids_tree_gives_its_t1_images_with_subjects_and_labels(tmp_path):
    anat = "anat/{}_T1w.nii.gz"
    touch(
        tmp_path / "sub-02/ses-M00" / anat.format("sub-02_ses-M00"),
        tmp_path / "sub-02/ses-M12" / anat.format("sub-02_ses-M12"),
        tmp_path / "sub-10" / anat.format("sub-10"),
        tmp_path / "sub-10/func/sub-10_bold.nii.gz",
        tmp_path / "sub-10/anat/sub-10_T2w.nii.gz",
        tmp_path / "derivatives/fmriprep/sub-10" / anat.format("sub-10_desc-preproc"),
    )
    table(tmp_path / "participants.tsv", "participant_id\tage\tdiagnosis\nsub-02\t70\tAD\n")
    assert facts(find_scans(tmp_path)) == [
        ("sub-02_ses-M00", "AD", "sub-02", ""),
        ("sub-02_ses-M12", "AD", "sub-02", ""),
        ("sub-10", "", "sub-10", ""),
    ]


def test_a_subjects_own_folder_and_a_folder_of_derivatives_are_bids_too(tmp_path):
    touch(tmp_path / "sub-02/ses-1/anat/sub-02_ses-1_T1w.nii.gz")
    touch(tmp_path / "derivatives/sub-03/anat/sub-03_T1w.nii.gz")
    assert facts(find_scans(tmp_path / "sub-02")) == [("sub-02_ses-1", "", "sub-02", "")]
    assert facts(find_scans(tmp_path / "derivatives")) == [("sub-03", "", "sub-03", "")]


def test_two_runs_of_a_session_are_told_apart(tmp_path):
    for run in (1, 2):
        touch(tmp_path / f"sub-1/anat/sub-1_run-{run}_T1w.nii.gz")
    assert [e.name for e in find_scans(tmp_path)] == ["sub-1_run-1_T1w", "sub-1_run-2_T1w"]


def test_a_broken_link_is_listed_as_missing(tmp_path):
    touch(tmp_path / "a.nii")
    (tmp_path / "b.nii").symlink_to(tmp_path / "nowhere.nii")
    assert facts(find_scans(tmp_path)) == [("a", "", "", ""), ("b", "", "", MISSING)]


# --- tables ------------------------------------------------------------------------------


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_tables_of_all_separators_and_encodings(tmp_path, separator, encoding):
    touch(tmp_path / "scans/é.nii.gz", tmp_path / "b.nii")
    rows = [
        ["Label", "Path", "age", "Subject"],
        ["Alzheimer", "scans/é.nii.gz", "70", "s1"],
        ["control", str(tmp_path / "b.nii"), "", "s2"],
    ]
    path = table(
        tmp_path / "metadata.csv",
        "\r\n".join(separator.join(row) for row in rows) + "\r\n",
        encoding,
    )
    found = find_scans(path)
    assert facts(found) == [("é", "Alzheimer", "s1", ""), ("b", "control", "s2", "")]
    assert found[0].path == tmp_path / "scans/é.nii.gz"


def test_rows_that_cannot_be_used_are_kept_with_their_problem(tmp_path):
    touch(tmp_path / "here.nii")
    (tmp_path / "folder").mkdir()
    text = 'path,LABEL,name\nhere.nii,AD\ngone.nii,CN,"a, b"\n\n,AD\nfolder,x\n'
    assert facts(find_scans(table(tmp_path / "m.csv", text))) == [
        ("here", "AD", "", ""),
        ("a, b", "CN", "", MISSING),
        ("row 5", "AD", "", "no path in row 5"),
        ("folder", "x", "", "a folder, not a file"),
    ]


def test_paths_that_were_written_on_windows(tmp_path):
    touch(tmp_path / "ad" / "a.nii")
    (found,) = find_scans(table(tmp_path / "m.csv", "Path\nad\\a.nii\n"))
    assert found.path == tmp_path / "ad" / "a.nii"
    assert found.name == "a"


def test_the_same_scan_twice_stays_twice(tmp_path):
    touch(tmp_path / "a.nii")
    found = find_scans(table(tmp_path / "m.csv", "Path\na.nii\na.nii\n"))
    assert [e.name for e in found] == ["a", "a"]


def test_a_table_without_the_column_names_those_it_has(tmp_path, plain):
    path = table(tmp_path / "m.csv", "file;dx\na.nii;AD\n")
    with pytest.raises(VolumeError) as caught:
        find_scans(path)
    text = plain(caught.value, "m.csv")
    assert "'Path'" in text
    assert "'file', 'dx'" in text


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("m.csv", b""),
        ("m.csv", b"\n\n"),
        ("m.csv", b"Path,Label\n"),
        ("m.csv", b"Path\n\x00\x00"),
        ("m.csv", b'Path,Label\n"' + b"a" * 200_000 + b'",x\n'),
        ("participants.tsv", b"participant_id\tage\nsub-1\t3\n"),
        ("scan.docx", b"x"),
    ],
)
def test_what_is_no_table_of_scans_is_said_plainly(tmp_path, plain, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(VolumeError) as caught:
        find_scans(tmp_path / name)
    plain(caught.value, name)


def test_nothing_there_and_nothing_in_it_are_said_plainly(tmp_path, plain):
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "empty", tmp_path / "gone"):
        with pytest.raises(VolumeError) as caught:
            find_scans(path)
        plain(caught.value, path)


def test_a_single_scan_is_a_list_of_one(tmp_path):
    touch(tmp_path / "a.nii.gz")
    assert facts(find_scans(tmp_path / "a.nii.gz")) == [("a", "", "", "")]


@given(
    st.lists(
        st.tuples(
            st.text("abc ,;\t\"'éä", min_size=1).filter(str.strip),
            st.text("ADCN ,;\"'\té"),
        ),
        min_size=1,
    ),
    st.sampled_from(",;\t"),
)
def test_whatever_the_csv_module_writes_is_read_back(tmp_path_factory, rows, separator):
    path = tmp_path_factory.mktemp("t") / "m.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter=separator)
        writer.writerow(["Path", "Label", "Name"])
        writer.writerows([f"{i}.nii", label, name] for i, (name, label) in enumerate(rows))
    found = find_scans(path)
    assert [e.path.name for e in found] == [f"{i}.nii" for i in range(len(rows))]
    assert [e.label for e in found] == [label.strip() for _, label in rows]


@given(st.lists(st.integers(0, 10**6), unique=True))
def test_numbers_sort_by_value(numbers):
    entries = [ScanEntry(Path(f"{n}.nii"), f"sub-{n}") for n in numbers]
    ordered = in_natural_order(entries)
    assert [e.name for e in ordered] == [f"sub-{n}" for n in sorted(numbers)]


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.NII.GZ", "a.mgz", "a.img", "a.mnc"])
def test_names_lose_the_ending(name):
    assert stem(Path("x") / name) == "a"
