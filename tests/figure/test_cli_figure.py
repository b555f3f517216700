"""``napari-cnnvis figure``."""

import json
import subprocess
import sys

import pytest
from PIL import Image

from napari_cnnvis.cli import main
from napari_cnnvis.figure.record import read_figure

SMALL = ("--width", "60", "--dpi", "80")


@pytest.fixture
def paths(files, tmp_path):
    scan, map_ = files()
    record = {"method": "Grad-CAM", "class_name": "atrophy", "layer": "relu4a", "score": "logit"}
    record["versions"] = {"torch": "2"}
    (tmp_path / "map.json").write_text(json.dumps(record))
    return str(scan), str(map_)


def test_a_plate_with_its_options(tmp_path, paths, capsys):
    output = tmp_path / "plate.png"
    options = ["--layout", "lightbox", "--axis", "coronal", "--count", "6", "--span", "-20", "20"]
    looks = ["--background", "white", "--limits", "-0.5", "0.5", "--threshold", "0.1"]
    more = ["--side", "neurological", "--no-scale-bar", "--no-smooth", "--title", ""]
    assert main(["figure", *paths, "-o", str(output), *SMALL, *options, *looks, *more]) == 0
    assert "written to" in capsys.readouterr().out
    record = read_figure(tmp_path / "plate.json")
    spec = record.spec
    assert (spec.layout, spec.axis, spec.count, spec.span) == ("lightbox", "coronal", 6, (-20, 20))
    assert (spec.background, spec.limits, spec.threshold) == ("white", (-0.5, 0.5), 0.1)
    assert (spec.side, spec.scale_bar, spec.smooth, spec.title) == (
        "neurological",
        False,
        False,
        "",
    )
    assert record.provenance["layer"] == "relu4a"


def test_the_json_draws_it_again_and_options_change_it(tmp_path, paths):
    output = tmp_path / "plate.png"
    at = ["--at", "-14", "14", "8", "--at", "0", "0", "0"]
    assert main(["figure", *paths, "-o", str(output), *SMALL, *at]) == 0
    first = output.read_bytes()
    output.unlink()
    assert main(["figure", "--from", str(tmp_path / "plate.json")]) == 0
    assert output.read_bytes() == first
    other = tmp_path / "other.svg"
    changed = ["--background", "white", "-o", str(other)]
    assert main(["figure", "--from", str(tmp_path / "plate.json"), *changed]) == 0
    record = read_figure(tmp_path / "other.json")
    assert record.spec.background == "white"
    assert record.spec.positions == ((-14, 14, 8), (0, 0, 0))


def test_the_json_draws_other_files_in_the_same_way(tmp_path, paths):
    assert main(["figure", *paths, "-o", str(tmp_path / "plate.png"), *SMALL, "--unit", "u"]) == 0
    again = ["figure", *paths, "--from", str(tmp_path / "plate.json"), "-o"]
    assert main([*again, str(tmp_path / "second.png")]) == 0
    assert read_figure(tmp_path / "second.json").spec.unit == "u"


def test_width_in_pixels(tmp_path, paths):
    output = tmp_path / "plate.png"
    assert main(["figure", *paths, "-o", str(output), "--pixels", "500", "--width", "85"]) == 0
    with Image.open(output) as image:
        assert image.width == 500


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["{scan}"], "Give a scan and its map"),
        ([], "Give a scan"),
        (["{scan}", "{map}"], "Give a scan"),
        (["{scan}", "{map}", "-o", "x.gif"], "endings"),
        (["{scan}", "{map}", "-o", "{folder}/map.png"], "another name"),
        (["{scan}", "{map}", "-o", "{folder}/x.png", "--at", "900", "0", "0"], "outside"),
        (["{scan}", "{map}", "-o", "{folder}/x.png", "--pixels", "9", "--dpi", "9"], "not both"),
        (["{scan}", "{map}", "-o", "{folder}/x.png", "--pixels", "0"], "not possible"),
        (["--from", "{folder}/map.json"], "not the JSON of a figure"),
        (["--from", "{folder}/none.json"], "no file"),
        (["{scan}", "{folder}/none.nii", "-o", "{folder}/x.png"], "no file"),
    ],
)
def test_what_goes_wrong_is_said_in_one_sentence(tmp_path, paths, options, word, capsys):
    names = {"scan": paths[0], "map": paths[1], "folder": str(tmp_path)}
    assert main(["figure", *(option.format(**names) for option in options)]) == 2
    error = capsys.readouterr().err
    assert word in error
    assert error.count("\n") == 1


def test_neither_qt_nor_torch_nor_pyplot_is_needed(tmp_path, paths):
    code = (
        "import sys\nfrom napari_cnnvis.cli import main\n"
        f"assert main(['figure', *{paths!r}, '-o', {str(tmp_path / 'p.png')!r}, '--width', '60']) == 0\n"
        "assert not {'qtpy', 'napari', 'torch', 'matplotlib.pyplot'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120, capture_output=True)
