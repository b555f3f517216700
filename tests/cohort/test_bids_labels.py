"""Labels of scans in tables: per subject, session or scan, however ids and headers are written."""

import itertools

import pytest

from napari_cnnvis.cohort.finding import find_scans
from napari_cnnvis.errors import VolumeError
from napari_cnnvis.training.study import read_study

SUBJECTS, SESSIONS = ("01", "02", "10"), ("M00", "M12")
TRUTH = {
    "sub-01_ses-M00": "MCI",
    "sub-01_ses-M12": "AD",
    "sub-02_ses-M00": "NC",
    "sub-02_ses-M12": "NC",
    "sub-10_ses-M00": "NC",
    "sub-10_ses-M12": "MCI",
}


def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")


@pytest.fixture
def tree(tmp_path):
    """Three subjects with two sessions each, without any table."""
    for sub, ses in itertools.product(SUBJECTS, SESSIONS):
        touch(tmp_path / f"sub-{sub}/ses-{ses}/anat/sub-{sub}_ses-{ses}_T1w.nii.gz")
    return tmp_path


@pytest.fixture
def flat(tmp_path):
    """The same subjects with one scan each."""
    for sub in SUBJECTS:
        touch(tmp_path / f"sub-{sub}/anat/sub-{sub}_T1w.nii.gz")
    return tmp_path


def labels_of(found):
    return {entry.name: entry.label for entry in found}


def participants(folder, header, rows, separator="\t", before=""):
    lines = [separator.join(row) for row in (header, *rows)]
    (folder / "participants.tsv").write_text(before + "\n".join(lines) + "\n")


# labels of sessions


ID_STYLES = {
    "as folders": ("sub-{}", "ses-{}"),
    "without prefixes": ("{}", "{}"),
    "in capitals": ("SUB-{}", "SES-{}"),
    "mixed": ("sub-{}", "{}"),
}


@pytest.mark.parametrize("session_column", ["session_id", "session", "visit"])
@pytest.mark.parametrize("column", ["label", "Diagnosis", "GROUP", "dx"])
@pytest.mark.parametrize("style", ID_STYLES)
def test_rows_of_sessions_give_each_session_its_label(tree, style, column, session_column):
    subject, session = ID_STYLES[style]
    rows = [
        (subject.format(n[4:6]), session.format(n.rpartition("-")[2]), label)
        for n, label in TRUTH.items()
    ]
    participants(tree, ("participant_id", session_column, column), rows)
    found = find_scans(tree)
    assert labels_of(found) == TRUTH
    assert found.notes == ()


@pytest.mark.parametrize("id_style", ["ses-{}", "{}"])
@pytest.mark.parametrize("with_participants", [True, False])
def test_tables_of_a_subjects_sessions_count_before_participants(tree, id_style, with_participants):
    if with_participants:
        participants(tree, ("participant_id", "group"), [(f"sub-{s}", "old") for s in SUBJECTS])
    for sub in SUBJECTS:
        rows = [f"{id_style.format(s)}\t{TRUTH[f'sub-{sub}_ses-{s}']}" for s in SESSIONS]
        text = "session_id\tdiagnosis\n" + "\n".join(rows)
        (tree / f"sub-{sub}/sub-{sub}_sessions.tsv").write_text(text)
    assert labels_of(find_scans(tree)) == TRUTH
    only = labels_of(find_scans(tree / "sub-01"))
    assert only == {name: label for name, label in TRUTH.items() if "sub-01" in name}


def test_tables_of_scans_are_read_where_they_have_labels(tree):
    for name, label in TRUTH.items():
        sub, _, ses = name.partition("_")
        file = f"anat/{name}_T1w.nii.gz"
        (tree / sub / ses / f"{name}_scans.tsv").write_text(f"filename\tdx\n{file}\t{label}\n")
    assert labels_of(find_scans(tree)) == TRUTH


def test_a_label_of_a_subject_is_that_of_all_its_sessions(tree):
    participants(
        tree, ("participant_id", "group"), [("sub-01", "AD"), ("sub-02", "NC"), ("sub-10", "n/a")]
    )
    found = find_scans(tree)
    assert [e.label for e in found] == ["AD", "AD", "NC", "NC", "", ""]
    assert found.notes == ("2 of 6 scans have no label: sub-10_ses-M00, sub-10_ses-M12.",)


def test_another_sessions_label_is_never_taken(tree):
    participants(
        tree,
        ("participant_id", "session_id", "group"),
        [("sub-01", "ses-M00", "MCI"), ("sub-02", "", "NC"), ("sub-10", "ses-M99", "AD")],
    )
    assert [e.label for e in find_scans(tree)] == ["MCI", "", "NC", "NC", "", ""]


def test_labels_that_contradict_each_other_are_said_and_not_taken(tree, flat):
    rows = [("sub-01", "MCI"), ("sub-01", "AD"), ("sub-02", "NC"), ("sub-02", "NC")]
    participants(tree, ("participant_id", "group"), rows)
    found = find_scans(tree)
    labels = labels_of(found)
    assert labels["sub-01_ses-M00"] == labels["sub-01"] == ""
    assert labels["sub-02_ses-M12"] == labels["sub-02"] == "NC"
    assert any("several labels for sub-01 (AD, MCI)" in note for note in found.notes)


# ids


@pytest.mark.parametrize(
    "style",
    [
        lambda s: s,
        lambda s: f"sub-{s}",
        lambda s: f"SUB_{s}",
        lambda s: str(int(s)),
        lambda s: f"{int(s)}.0",
        lambda s: f"sub-{int(s):04d}",
        lambda s: f" {s} ",
    ],
)
@pytest.mark.parametrize("column", ["participant_id", "subject", "Subject_ID", "participant"])
def test_ids_are_recognised_however_they_are_written(flat, column, style):
    participants(
        flat, (column, "group"), [(style(s), g) for s, g in zip(SUBJECTS, "ABC", strict=True)]
    )
    found = find_scans(flat)
    assert labels_of(found) == {"sub-01": "A", "sub-02": "B", "sub-10": "C"}
    changed = style("01").strip().lower() not in ("01", "sub-01", "sub_01")
    assert [("leading zeros" in note) for note in found.notes] == [True] * changed


def test_participants_may_be_a_csv(flat):
    text = "sep=;\nparticipant_id;group\n" + "".join(f"{s};A\n" for s in SUBJECTS)
    (flat / "participants.csv").write_bytes(text.encode("utf-8-sig"))
    assert set(labels_of(find_scans(flat)).values()) == {"A"}


def test_ids_that_differ_by_zeros_alone_are_not_mixed_up(tmp_path):
    for sub in ("1", "01"):
        touch(tmp_path / f"sub-{sub}/anat/sub-{sub}_T1w.nii.gz")
    participants(tmp_path, ("participant_id", "group"), [("1", "A"), ("01", "B"), ("001", "C")])
    assert labels_of(find_scans(tmp_path)) == {"sub-1": "A", "sub-01": "B"}


@pytest.mark.parametrize("place", ["sub-01", "derivatives/prep"])
def test_participants_above_the_folder_that_was_opened_are_found(flat, place):
    touch(flat / "derivatives/prep/sub-01/anat/sub-01_desc-x_T1w.nii.gz")
    participants(flat, ("participant_id", "group"), [("sub-01", "AD")])
    assert set(labels_of(find_scans(flat / place)).values()) == {"AD"}


# what stands before the header, encodings and separators


BEFORE = {
    "nothing": "",
    "sep": "sep={}\r\n",
    "SEP": "SEP={}\n",
    "comment": "# export of 2024\n",
    "comments": "# export, by 'hand\n\n// of; 2024\n% and, more\n",
    "sep and comment": "sep={}\n# export\n",
    "blank lines": "\n\r\n\n",
    "title": "Study of 2024\n\n",
    "a hash before the header": "#",
    "a comment mark and a space": "# ",
}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("separator", [";", ",", "\t", "|"])
@pytest.mark.parametrize("before", BEFORE)
def test_what_stands_before_the_header_is_left_out(tmp_path, before, separator, encoding):
    touch(tmp_path / "a, b.nii.gz")
    row = '"a, b.nii.gz"' if separator == "," else "a, b.nii.gz"
    text = BEFORE[before].format(separator) + f"Path{separator}Label\n{row}{separator}AD\n"
    text += f"# {row}{separator}NC\n"
    (tmp_path / "t.csv").write_bytes(text.encode(encoding))
    found = find_scans(tmp_path / "t.csv")
    assert [(e.name, e.label, e.problem) for e in found] == [("a, b", "AD", "")]
    assert found.notes == ()
    participants(
        tmp_path,
        ("participant_id", "group"),
        [("01", "AD")],
        separator,
        BEFORE[before].format(separator),
    )
    touch(tmp_path / "sub-01/anat/sub-01_T1w.nii.gz")
    assert labels_of(find_scans(tmp_path)) == {"sub-01": "AD"}


def test_numbers_of_rows_are_those_of_the_file(tmp_path):
    (tmp_path / "t.csv").write_text("sep=,\n# a\nPath,Label\n,AD\n")
    (entry,) = find_scans(tmp_path / "t.csv")
    assert entry.problem == "no path in row 4"


# nothing is lost silently


def test_a_tree_whose_tables_have_no_labels_says_which_columns_they_have(tree):
    participants(tree, ("participant_id", "sex", "age"), [("sub-01", "F", "70")])
    (note,) = find_scans(tree).notes
    assert note.startswith("participants.tsv has no column 'Label'")
    assert "'participant_id', 'sex', 'age'" in note
    (tree / "sub-01/sub-01_sessions.tsv").write_text("session_id\tage\nses-M00\t70\n")
    assert ["sub-01_sessions.tsv" in note for note in find_scans(tree).notes] == [False, True]


@pytest.mark.parametrize("text", ["name\tgroup\nsub-01\tAD\n", "", "\0\0"])
def test_a_table_that_cannot_be_read_is_said(tree, text):
    (tree / "participants.tsv").write_text(text)
    (note,) = find_scans(tree).notes
    assert "participants.tsv" in note


def test_a_tree_without_tables_has_nothing_to_say(tree):
    assert find_scans(tree).notes == ()


@pytest.mark.parametrize(
    ("column", "told"),
    [("Label", ""), ("Diagnosis", "the column 'diagnosis'"), ("Age", "no label")],
)
def test_a_table_says_where_its_labels_are_from(tmp_path, column, told):
    touch(tmp_path / "a.nii")
    wide = ",".join(f"c{n}" for n in range(30))
    (tmp_path / "t.csv").write_text(f"Path,{column},{wide}\na.nii,AD\n")
    found = find_scans(tmp_path / "t.csv")
    assert found[0].label == ("AD" if column != "Age" else "")
    assert [told in note for note in found.notes] == [True] * bool(told)
    assert all(note.count("'c") < 10 for note in found.notes)


def test_training_takes_the_same_columns_and_names_those_there_are(tmp_path, plain):
    for name in "ab":
        touch(tmp_path / f"{name}.nii")
    path = tmp_path / "t.csv"
    path.write_text("sep=;\n# of 2024\nPath;DX;Subject_ID\na.nii;AD;1\nb.nii;NC;2\n")
    study = read_study(path)
    assert study.class_names == ("AD", "NC") and study.subjects == ["1", "2"]
    path.write_text("Path,Age\na.nii,3\n")
    with pytest.raises(VolumeError) as caught:
        read_study(path)
    assert "its columns are 'path', 'age'" in plain(caught.value, "t.csv")
