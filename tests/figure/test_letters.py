"""Letters and millimetres of a written picture say where the mark in it really is."""

import re
import xml.etree.ElementTree as ET
from dataclasses import dataclass, replace

import numpy as np
import pytest
from PIL import Image

import napari_cnnvis as cv
from napari_cnnvis.figure.spec import SIDES

DPI = 100
PLAIN = {"colour_bar": False, "scale_bar": False, "title": "", "width_mm": 180, "dpi": DPI}
ORIENTATIONS = ("RAS", "LAS", "LPI", "PSR", "oblique")
SVG = "{http://www.w3.org/2000/svg}"
#: pixels of the page to a unit of the SVG
SCALE = DPI / 72


@dataclass
class Seen:
    """One picture of a plate: the texts below it, and where its coloured pixels are."""

    caption: str
    #: at the left and the right end
    letters: tuple[str, str]
    #: pixels of the page that each of the letters covers
    ink: tuple[int, int]
    #: share of the width at which the map lies, None if it is not to be seen
    mark: float | None

    @property
    def letter_at_mark(self):
        return self.letters[int(self.mark > 0.5)]


def seen_in(svg, page, ink):
    """The pictures of a plate, from its SVG, its pixels, and which of these are of letters."""
    words = [
        (float(t.get("x")) * SCALE, float(t.get("y")) * SCALE, t.text)
        for t in svg.iter(f"{SVG}text")
    ]
    found = []
    for image in svg.iter(f"{SVG}image"):
        *_, left, top = (float(n) * SCALE for n in re.findall(r"-?[\d.]+", image.get("transform")))
        width, height = int(image.get("width")), int(image.get("height"))
        below = [w for w in words if left <= w[0] <= left + width and w[1] > top + height]
        line = min(y for _, y, _ in below)
        below = sorted(word for word in below if word[1] < line + 3)
        (_, _, first), (_, _, caption), (_, _, last) = below
        rgb = page[round(top) : round(top) + height, round(left) : round(left) + width]
        coloured = rgb.max(axis=2) - rgb.min(axis=2) > 40
        mark = (np.nonzero(coloured)[1].mean() + 0.5) / width if coloured.any() else None
        strip = ink[round(line) - 12 : round(line) + 4]
        x, wide = round(left), 14
        covered = strip[:, x : x + wide].sum(), strip[:, x + width - wide : x + width].sum()
        found.append(Seen(caption, (first, last), covered, mark))
    return found


def turned(volume, degrees=12):
    """About the axis from back to front, then about that from left to right."""
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    turn, nod = np.eye(4), np.eye(4)
    turn[np.ix_([0, 2], [0, 2])] = nod[np.ix_([1, 2], [1, 2])] = [[c, -s], [s, c]]
    return replace(volume, affine=nod @ turn @ volume.affine)


@pytest.fixture
def look(tmp_path, marked):
    """Writes a plate of the marked volumes as SVG and PNG, and reads the files again."""

    def look(orientation, **spec):
        volumes = marked("RAS" if orientation == "oblique" else orientation)
        if orientation == "oblique":
            volumes = [turned(volume) for volume in volumes]
        spec = cv.FigureSpec(**(PLAIN | spec))
        for name, letters in (("plate.svg", True), ("plate.png", True), ("bare.png", False)):
            cv.write_figure(
                *volumes, replace(spec, letters=letters), tmp_path / name, overwrite=True
            )
        page, bare = (np.array(Image.open(tmp_path / f"{n}.png"), int) for n in ("plate", "bare"))
        return seen_in(ET.parse(tmp_path / "plate.svg"), page, np.abs(page - bare).max(axis=2) > 60)

    return look


def check(picture, side=None):
    """The mark, which lies left and in front, has its letter at its own end, in the pixels too."""
    assert abs(picture.mark - 0.5) > 0.1
    assert picture.letter_at_mark in ("L", "A")
    assert set(picture.letters) in ({"L", "R"}, {"A", "P"})
    assert min(picture.ink) > 10
    if "L" in picture.letters:
        ink = dict(zip(picture.letters, picture.ink, strict=True))
        assert ink["L"] < 0.8 * ink["R"]  # which of the two letters it is
        if side is not None:
            assert picture.letters.index("L") == (side == "radiological")


def test_the_mark_lies_left_and_in_front(marked):
    """Of the patient, by the file's own affine; the pictures are compared with that."""
    for orientation in ORIENTATIONS:
        volumes = marked("RAS" if orientation == "oblique" else orientation)
        map_ = turned(volumes[1]) if orientation == "oblique" else volumes[1]
        x, y, _ = map_.affine[:3] @ [*np.argwhere(map_.data > 0.5).mean(axis=0), 1]
        assert x < -5
        assert y > 5


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("side", SIDES)
def test_slices(look, orientation, side):
    pictures = look(orientation, side=side)
    assert [picture.caption[0] for picture in pictures] == ["x", "y", "z"]
    assert [set(picture.letters) for picture in pictures] == [set("AP"), set("LR"), set("LR")]
    for picture in pictures:
        check(picture, side)


@pytest.mark.parametrize("axis", ["sagittal", "coronal", "axial"])
@pytest.mark.parametrize(("orientation", "side"), [("LAS", SIDES[0]), ("PSR", SIDES[1])])
def test_lightbox(look, marked, orientation, axis, side):
    pictures = look(orientation, side=side, layout="lightbox", axis=axis, count=9)
    assert len(pictures) == 9
    _, map_ = marked(orientation)
    number = ("sagittal", "coronal", "axial").index(axis)
    places = np.argwhere(map_.data > 0.5) @ map_.affine[:3, :3].T + map_.affine[:3, 3]
    low, high = places[:, number].min(), places[:, number].max()
    there = []
    for picture in pictures:
        millimetres = float(re.search(r"= (.*) mm", picture.caption)[1].replace("−", "-"))
        assert (picture.mark is not None) == (low - 0.5 <= millimetres <= high + 0.5)
        if picture.mark is not None:
            check(picture, side)
            there.append(picture)
    assert 1 <= len(there) < 5


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_views(look, orientation):
    pictures = {picture.caption: picture for picture in look(orientation, layout="views")}
    right_end = {"left": "P", "anterior": "L", "superior": "R"}
    right_end |= {"right": "A", "posterior": "R", "inferior": "L"}
    assert {name: picture.letters[1] for name, picture in pictures.items()} == {
        f"{name} view": letter for name, letter in right_end.items()
    }
    for picture in pictures.values():
        check(picture)
