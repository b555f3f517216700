"""Look-up tables: what FreeSurfer, BIDS, ITK-SNAP and plain tables call their labels."""

import contextlib
import itertools
import time

import nibabel as nib
import numpy as np
import pytest

from napari_cnnvis.atlas.freesurfer_labels import freesurfer_labels
from napari_cnnvis.atlas.lookup_tables import (
    freesurfer_table,
    read_lookup_table,
    table_beside,
)
from napari_cnnvis.atlas.rois import read_rois
from napari_cnnvis.errors import VolumeError

BOTH = {17: "Left-Hippocampus", 53: "Right-Hippocampus"}
YELLOW = {17: (220, 216, 20), 53: (220, 216, 21)}

TABLES = {
    "FreeSurfer": """#$Id: FreeSurferColorLUT.txt $
#No. Label Name:                            R   G   B   A

17  Left-Hippocampus                        220 216 20  0
53  Right-Hippocampus                       220 216 21  0
""",
    "FreeSurfer without alpha": "17 Left-Hippocampus 220 216 20\n53 Right-Hippocampus 220 216 21",
    "BIDS": "index\tname\tcolor\n17\tLeft-Hippocampus\t#dcd814\n53\tRight-Hippocampus\t#DCD815\n",
    "BIDS with more columns": (
        "index\tabbreviation\tname\tmapping\tcolor\n"
        "17\tHL\tLeft-Hippocampus\t2\t#dcd814\n53\tHR\tRight-Hippocampus\t2\t#dcd815\n"
    ),
    "channels": "Label,Name,R,G,B\n17,Left-Hippocampus,220,216,20\n53,Right-Hippocampus,220,216,21\n",
    "ITK-SNAP": """################################################
# ITK-SnAP Label Description File
   17   220  216   20        1  1  1    "Left-Hippocampus"
   53   220  216   21      0.5  0  1    "Right-Hippocampus"
""",
    "byte order mark, Windows": (
        "\ufeffvalue;name;red;green;blue\r\n17;Left-Hippocampus;220;216;20\r\n"
        "53;Right-Hippocampus;220;216;21\r\n"
    ),
    "FreeSurfer 8, all rows": """#ctTType   0  unknown
#ctTType   1  cortex
#No. Label Name:                            R   G   B   A  TT
17  Left-Hippocampus                        220 216 20  0  1
53  Right-Hippocampus                       220 216 21  0  2
""",
    "FreeSurfer 8, some rows": (
        "17  Left-Hippocampus 220 216 20  0\n53  Right-Hippocampus 220 216 21  0  2\n"
    ),
    "opaque and tissue": (
        "17 Left-Hippocampus 220 216 20 255 1\n53 Right-Hippocampus 220 216 21 255 2\n"
    ),
    "comments everywhere": """# of 2024
// and this
% and that
17  Left-Hippocampus   220 216 20  0   # the left one
# between
53  Right-Hippocampus  220 216 21  0   // the right one
""",
    "3D Slicer": """# Color table file a.ctbl
# 2 values
17 Left-Hippocampus 220 216 20 255
53 Right-Hippocampus 220 216 21 255
""",
    "sep=": "sep=;\nindex;name;R;G;B\n17;Left-Hippocampus;220;216;20\n53;Right-Hippocampus;220;216;21\n",
    "a header in a comment": (
        "# made in 2024\n#name,index,color\nLeft-Hippocampus,17,#dcd814\nRight-Hippocampus,53,#dcd815\n"
    ),
    "pandas, tabs": (
        "\tindex\tname\tcolor\n0\t17\tLeft-Hippocampus\t#dcd814\n1\t53\tRight-Hippocampus\t#dcd815\n"
    ),
}
WITHOUT_COLOURS = {
    "pairs": "17 Left-Hippocampus\n53 Right-Hippocampus\n",
    "AAL": "17 Left-Hippocampus 4101\n53 Right-Hippocampus 4102\n",
    "pairs with a comma": "17,Left-Hippocampus\n53,Right-Hippocampus\n",
    "MRIcroGL": "17|Left-Hippocampus|\n53|Right-Hippocampus|\n",
    "CAT12": (
        "ROIid;ROIabbr;ROIname;Vgm\n17;lHip;Left-Hippocampus;3.2\n53;rHip;Right-Hippocampus;3.3\n"
    ),
    "CAT12 with commas": "ROIid,ROIname\n17,Left-Hippocampus\n53,Right-Hippocampus\n",
    "AAL as its text file": "HIPG\tLeft-Hippocampus\t17\nHIPD\tRight-Hippocampus\t53\n",
    "names first": "Left-Hippocampus;17\nRight-Hippocampus;53\n",
    "names of columns in other spellings": (
        "Label ID\tFull Name\n17\tLeft-Hippocampus\n53\tRight-Hippocampus\n"
    ),
    "comment before a header": (
        "# of 2024, by hand\nindex,name\n17,Left-Hippocampus\n53,Right-Hippocampus\n"
    ),
    "SPM and CAT12 in XML": """<?xml version="1.0" encoding="ISO-8859-1"?>
<!-- labels -->
<atlas version="1.0"><header><name>N</name><type>Label</type></header><data>
<label><index>17</index><short_name>lHip</short_name><name>Left-Hippocampus</name><RGBA/></label>
<label><index>53</index><name>Right-Hippocampus</name><XYZmm>1, 2, 3</XYZmm></label>
</data></atlas>""",
    "FSL in XML": """<?xml version="1.0" encoding="utf-8"?>
<atlas version="1.0"><header><name>J</name><type>Label</type></header><data>
<label index="17" x="48" y="94" z="35">Left-Hippocampus</label>
<label index="53" x="25" y="70" z="32">Right-Hippocampus</label>
</data></atlas>""",
    "FSL in XML, probabilistic": """<atlas version="1.0">
<header><type>Probabilistic</type></header><data>
<label index="16" x="48" y="94" z="35">Left-Hippocampus</label>
<label index="52" x="25" y="70" z="32">Right-Hippocampus</label>
</data></atlas>""",
    "label is the name": "index,label\n17,Left-Hippocampus\n53,Right-Hippocampus\n",
    "label is the number": "name,label\nLeft-Hippocampus,17\nRight-Hippocampus,53.0\n",
}


@pytest.mark.parametrize("kind", TABLES)
def test_names_and_colours_are_read(tmp_path, kind):
    (tmp_path / "table.txt").write_text(TABLES[kind], newline="")
    table = read_lookup_table(tmp_path / "table.txt")
    assert table.names == BOTH
    assert table.colours == YELLOW
    assert table.source.endswith("table.txt")


@pytest.mark.parametrize("kind", WITHOUT_COLOURS)
def test_names_alone_are_read(tmp_path, kind):
    (tmp_path / "table.csv").write_text(WITHOUT_COLOURS[kind])
    table = read_lookup_table(tmp_path / "table.csv")
    assert table.names == BOTH
    assert table.colours == {}


def test_names_may_have_spaces_commas_and_letters_of_any_kind(tmp_path):
    (tmp_path / "a.txt").write_text("1 Gyrus of Heschl 1 2 3 0\n2 Área 44 (left) 4 5 6 0\n")
    table = read_lookup_table(tmp_path / "a.txt")
    assert table.names == {1: "Gyrus of Heschl", 2: "Área 44 (left)"}
    (tmp_path / "b.csv").write_text('index,name\n1,"Thalamus, left"\n')
    assert read_lookup_table(tmp_path / "b.csv").names == {1: "Thalamus, left"}
    (tmp_path / "c.txt").write_bytes("1 Área\n".encode("latin-1"))
    assert read_lookup_table(tmp_path / "c.txt").names == {1: "Área"}
    (tmp_path / "d.txt").write_text("1 Frontal Pole\n2 Insular Cortex\n")
    assert read_lookup_table(tmp_path / "d.txt").names == {1: "Frontal Pole", 2: "Insular Cortex"}


@pytest.mark.parametrize("content", [b"", b"# nothing\n", b"a diary\nof days\n", b"1 2 3\n4 5 6\n"])
def test_a_file_that_names_nothing_is_refused(tmp_path, plain, content):
    (tmp_path / "notes.txt").write_bytes(content)
    with pytest.raises(VolumeError) as error:
        read_lookup_table(tmp_path / "notes.txt")
    plain(error.value, "notes.txt")


def test_what_is_no_text_or_not_there_is_refused(tmp_path, plain):
    (tmp_path / "lut.txt").write_bytes(b"\x1f\x8b\0\0")
    for name in ("lut.txt", "nowhere.txt"):
        with pytest.raises(VolumeError) as error:
            read_lookup_table(tmp_path / name)
        plain(error.value, name)


@pytest.mark.parametrize("beside", ["aseg.txt", "aseg.nii.txt", "aseg.csv", "aseg.label"])
def test_the_table_beside_a_volume_is_found(tmp_path, beside):
    (tmp_path / "other.txt").touch()
    assert table_beside(tmp_path / "aseg.nii.gz") is None
    (tmp_path / beside).touch()
    assert table_beside(tmp_path / "aseg.nii.gz") == tmp_path / beside


def test_bids_tables_are_found_where_bids_keeps_them(tmp_path):
    folder = tmp_path / "derivatives" / "sub-1" / "anat"
    folder.mkdir(parents=True)
    volume = folder / "sub-1_space-T1w_desc-aparcaseg_dseg.nii.gz"
    for name in ("desc-aseg_dseg.tsv", "dseg.tsv"):
        (tmp_path / "derivatives" / name).touch()
    assert table_beside(volume).name == "dseg.tsv"
    (tmp_path / "derivatives" / "desc-aparcaseg_dseg.tsv").touch()
    assert table_beside(volume).name == "desc-aparcaseg_dseg.tsv"
    (folder / "sub-1_desc-aparcaseg_dseg.tsv").touch()
    assert table_beside(volume).parent == folder
    assert table_beside(folder / "sub-1_T1w.nii.gz") is None


def test_freesurfers_numbers_are_known():
    labels = freesurfer_labels()
    names = {number: name for number, (name, _) in labels.items()}
    for number, name in {
        2: "Left-Cerebral-White-Matter",
        10: "Left-Thalamus",
        16: "Brain-Stem",
        41: "Right-Cerebral-White-Matter",
        54: "Right-Amygdala",
        251: "CC_Posterior",
        1006: "ctx-lh-entorhinal",
        1035: "ctx-lh-insula",
        2001: "ctx-rh-bankssts",
        2016: "ctx-rh-parahippocampal",
        3024: "wm-lh-precentral",
        4035: "wm-rh-insula",
        5002: "Right-UnsegmentedWhiteMatter",
    }.items():
        assert names[number] == name
    assert labels[17][1] == (220, 216, 20)
    assert labels[1035][1] == (255, 192, 32)
    assert labels[3001][1] == (230, 155, 215)
    assert 0 not in labels
    assert len(set(names.values())) == len(names)


@pytest.mark.parametrize(
    ("labels", "name", "expected"),
    [
        ([2, 3, 17, 53], "labels.nii.gz", True),
        ([1006, 2006], "labels.nii.gz", True),
        ([17, 9999], "aparc+aseg.mgz", True),
        ([17, 9999], "labels.nii.gz", False),
        ([2, 3], "labels.nii.gz", False),
        (range(1, 117), "AAL.nii", False),
        ([9999], "aseg.mgz", False),
        ([], "aseg.mgz", False),
    ],
)
def test_freesurfers_names_are_for_freesurfers_numbers(labels, name, expected):
    table = freesurfer_table(list(labels), name)
    assert (table is not None) == expected
    if expected:
        assert set(table.names) == set(table.colours) <= set(labels)


UNITS = [" ", "a ", "1 ", "%", '"', "\t", "a", ","]


@pytest.mark.parametrize("start", ["1 ", "index\tname\n", '1 1 1 1 1 1 1 "'])
def test_no_line_takes_long(tmp_path, start):
    seconds = []
    for unit, end in itertools.product(UNITS, ("", " %", " 1 2 3 0")):
        line = start + unit * (10_000 // len(unit)) + end
        (tmp_path / "hostile.txt").write_text(f"{line}\n{line}")
        before = time.process_time()
        with contextlib.suppress(VolumeError):
            read_lookup_table(tmp_path / "hostile.txt")
        seconds.append(time.process_time() - before)
    assert max(seconds) < 0.5


@pytest.mark.parametrize(
    "content",
    ["1 " + "a" * 30_000, "1 a\n" * 300_000, "9" * 400 + ",a\n", "9" * 5000 + " a 1 2 3\n"],
)
def test_lines_files_and_numbers_have_a_limit(tmp_path, plain, content):
    (tmp_path / "long.txt").write_text(content)
    with pytest.raises(VolumeError) as error:
        read_lookup_table(tmp_path / "long.txt")
    assert len(plain(error.value, "long.txt")) < 400


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("17 Area 4 10 20 30 0", (17, "Area 4")),
        ("17 5 10 20 30", (17, "5")),
        ("17 Area 44 10 20 30 0", (17, "Area 44")),
        ('17 "Area 44" 10 20 30', (17, "Area 44")),
        ("-1 left  right 4.5 -3", (-1, "left  right")),
        ("3 10% 4 a_b", None),
    ],
)
def test_names_with_numbers_keep_them(tmp_path, line, expected):
    (tmp_path / "t.txt").write_text(line)
    if expected is None:
        with pytest.raises(VolumeError):
            read_lookup_table(tmp_path / "t.txt")
    else:
        assert read_lookup_table(tmp_path / "t.txt").names == dict([expected])


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize("separator", [";", ",", "\t"])
def test_tables_of_spreadsheets_are_read_in_their_encodings(tmp_path, encoding, separator):
    text = "index;name\r\n1;Áreas 4–6\r\n2;links\r\n".replace(";", separator)
    (tmp_path / "a.csv").write_bytes(text.encode(encoding))
    assert read_lookup_table(tmp_path / "a.csv").names == {1: "Áreas 4–6", 2: "links"}


@pytest.mark.parametrize(
    "text",
    [
        "1 0.5 0.25 1.0 Left part\n2 0.0 0.0 0.2 Right\n",
        "index,name,r,g,b\n1,Left part,0.5,0.25,1.0\n2,Right,0,0,0.2\n",
    ],
)
def test_colours_from_0_to_1_are_scaled(tmp_path, text):
    (tmp_path / "a.lut").write_text(text)
    table = read_lookup_table(tmp_path / "a.lut")
    assert table.names == {1: "Left part", 2: "Right"}
    assert table.colours == {1: (127, 63, 255), 2: (0, 0, 51)}


def test_names_that_end_in_numbers_are_no_tissue_types(tmp_path):
    rows = "".join(f"{n} Area {n} 10 20 0 0\n" for n in range(1, 6))
    (tmp_path / "a.txt").write_text(rows)
    table = read_lookup_table(tmp_path / "a.txt")
    assert table.names == {n: f"Area {n}" for n in range(1, 6)}
    assert set(table.colours.values()) == {(10, 20, 0)}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("number,colour\n1,red\n2,blue\n", "names ('name'); its columns are 'number', 'colour'"),
        ("structure;x\nA;1\nB;2.5\n", "numbers of labels ('index'); its columns are 'structure'"),
        (",".join(f"c{n}" for n in range(40)) + "\n" + ",".join("a" for _ in range(39)) + ",1\n", "and 32 more"),
    ],
)  # fmt: skip
def test_a_missing_column_is_said_with_what_columns_there_are(tmp_path, plain, text, words):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(VolumeError) as error:
        read_lookup_table(tmp_path / "a.csv")
    assert words in plain(error.value, "a.csv")


@pytest.mark.parametrize(
    "text",
    [
        "<atlas><data><label><index>1</index>",
        "<!DOCTYPE a [<!ENTITY b 'c'>]><atlas>&b;</atlas>",
        "<atlas><data/></atlas>",
        "<",
    ],
)
def test_xml_that_names_nothing_or_too_much_is_refused(tmp_path, plain, text):
    (tmp_path / "a.xml").write_text(text)
    with pytest.raises(VolumeError) as error:
        read_lookup_table(tmp_path / "a.xml")
    plain(error.value, "a.xml")


@pytest.mark.parametrize("name", ["a.xml", "a.ctbl", "a.csv"])
def test_such_tables_beside_an_atlas_name_its_regions(tmp_path, name):
    labels = np.zeros((3, 3, 3), np.int16)
    labels[0], labels[1] = 17, 53
    nib.save(nib.Nifti1Image(labels, np.eye(4)), tmp_path / "a.nii.gz")
    kind = {"a.xml": "SPM and CAT12 in XML", "a.csv": "CAT12"}.get(name)
    text = WITHOUT_COLOURS[kind] if kind else TABLES["3D Slicer"]
    (tmp_path / name).write_text(text)
    rois = read_rois(tmp_path / "a.nii.gz")
    assert rois.names == BOTH
    assert rois.notes == (f"Names from {name}.",)
