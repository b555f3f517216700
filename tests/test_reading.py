"""What stands under a file's name instead of the file is told apart from damage, everywhere."""

import gzip

import pytest

import napari_cnnvis as cv
from napari_cnnvis.atlas.lookup_tables import read_lookup_table
from napari_cnnvis.cli import main
from napari_cnnvis.cohort.finding import find_scans
from napari_cnnvis.reading import check_content, check_plain

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 123456\n"
#: what may be saved under a file's name, and the words that name it
INSTEAD = {
    "lfs": (POINTER, "Git LFS pointer"),
    "older lfs": (POINTER.replace(b"git-lfs", b"hawser"), "Git LFS pointer"),
    "lfs packed by hand": (gzip.compress(POINTER), "Git LFS pointer"),
    "annex": (b"/annex/objects/MD5E-s123--0123.nii.gz\n", "datalad get"),
    "annex on Windows": (b"../.git/annex/objects/x1/Zq/MD5E-s12--0/MD5E-s12--0.pt", "datalad get"),
    "page": (b"<!DOCTYPE html>\n<html><head><title>Log in</title></head></html>", "web page"),
    "page with a mark": (b"\xef\xbb\xbf\r\n  <HTML lang=en><body>no</body></HTML>", "web page"),
    "xhtml": (b"<?xml version='1.0'?>\n<!-- a -->\n<!DOCTYPE html PUBLIC 'x'><html/>", "web page"),
    "storage": (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "a server"),
    "api": (b'{"message": "Bad credentials", "status": "401"}', "(Bad credentials)"),
    "hub": (b'{"error":"Repository not found"}', "(Repository not found)"),
    "shortcut": (b"[InternetShortcut]\r\nURL=https://example.org/net.pt\r\n", "shortcut"),
}
READERS = {
    "scan.nii": cv.read_volume,
    "scan.nii.gz": cv.read_volume,
    "scan.mgz": cv.read_volume,
    "scan.img": cv.read_volume,
    "scan.mnc": cv.read_volume,
    "labels.nii.gz": cv.read_rois,
    "names.txt": read_lookup_table,
    "study.csv": find_scans,
    "net.pt": cv.load_model,
    "net.ckpt": cv.load_model,
    "net.safetensors": cv.load_model,
    "net.npz": cv.load_model,
    "net.pt2": cv.load_model,
}


@pytest.mark.parametrize("kind", INSTEAD)
@pytest.mark.parametrize("name", READERS)
def test_pointers_pages_and_refusals_are_named_by_every_reader(name, kind, tmp_path, plain):
    content, words = INSTEAD[kind]
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(cv.CnnVisError) as caught:
        READERS[name](path)
    assert words in plain(caught.value, path)


@pytest.mark.parametrize("name", ["scan.nii.gz", "net.pt"])
def test_an_annexed_file_that_is_not_there_is_not_a_wrong_name(name, tmp_path, plain):
    (tmp_path / name).symlink_to("../.git/annex/objects/Xk/0q/MD5E-s12--0.nii.gz/MD5E-s12--0")
    with pytest.raises(cv.CnnVisError) as caught:
        READERS[name](tmp_path / name)
    assert "datalad get" in plain(caught.value, tmp_path / name)


@pytest.mark.parametrize(
    "content",
    [
        b"version of 2024\n1 Left\n",
        b"<?xml version='1.0'?><atlas><data><label index='1'>Left</label></data></atlas>",
        b'{"architecture": "resnet", "classes": ["a", "b"]}',
        b'{"message": "cut off he',
        b"<" * 4096,
        b"\x1f\x8b cut off",
        b"\0" * 4096,
        b"see annex/objects/ for more",
    ],
)
def test_other_content_is_left_to_its_reader(content, tmp_path):
    path = tmp_path / "a.dat"
    path.write_bytes(content)
    check_content(path)
    assert check_plain(path, "a file") == path


def test_the_command_line_names_them_too(tmp_path, capsys):
    (tmp_path / "net.pt").write_bytes(POINTER)
    (tmp_path / "scan.nii").write_bytes(POINTER)
    assert main(["info", str(tmp_path / "net.pt")])
    assert main(["supervoxels", str(tmp_path / "scan.nii"), "-o", str(tmp_path / "out.nii")])
    told = capsys.readouterr()
    assert "Git LFS pointer" in told.out and "Git LFS pointer" in told.err
