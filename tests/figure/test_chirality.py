"""The patient's left is where it has to be, whatever the orientation of the files."""

import numpy as np
import pytest

from napari_cnnvis.figure.pictures import Subject, rows_of
from napari_cnnvis.figure.spec import FigureSpec

ORIENTATIONS = ("RAS", "LPI", "PSR")
#: the mark lies left, front and top of the middle
PEAK = ((-14.0, 14.0, 8.0),)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize(("side", "left"), [("radiological", 1), ("neurological", -1)])
def test_slices(panels, orientation, side, left, centre_of_mark, marked):
    sagittal, coronal, axial = panels(*marked(orientation), side=side, positions=PEAK)
    for picture in (coronal, axial):
        x, y = centre_of_mark(picture)
        assert (x - 0.5) * left > 0.1
        assert y < 0.45  # front or top is up
    x, _ = centre_of_mark(sagittal)
    assert (x - 0.5) * left < -0.1  # the nose points to the left, or to the right


@pytest.mark.parametrize("axis", ["axial", "coronal"])
@pytest.mark.parametrize(("side", "left"), [("radiological", 1), ("neurological", -1)])
def test_lightbox(panels, axis, side, left, centre_of_mark, marked):
    pictures = panels(*marked("LPI"), layout="lightbox", axis=axis, side=side, count=9)
    seen = [p for p in pictures if np.ptp(p[..., :3].astype(int), axis=2).max() > 40]
    assert 1 <= len(seen) <= 4
    for picture in seen:
        assert (centre_of_mark(picture)[0] - 0.5) * left > 0.1


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("side", ["radiological", "neurological"])
def test_views_are_from_outside_and_never_mirrored(
    panels, orientation, side, centre_of_mark, marked
):
    pictures = panels(*marked(orientation), layout="views", side=side)
    names = ("left", "anterior", "superior", "right", "posterior", "inferior")
    x = {n: centre_of_mark(p)[0] - 0.5 for n, p in zip(names, pictures, strict=True)}
    assert x["left"] < -0.1  # the nose points left
    assert x["right"] > 0.1
    assert x["anterior"] > 0.1  # face to face, the patient's left is on the right
    assert x["posterior"] < -0.1
    assert x["superior"] < -0.1
    assert x["inferior"] > 0.1


def test_a_side_is_stronger_from_its_own_side(panels, marked):
    strength = {}
    pictures = panels(*marked(), layout="views")
    for name, picture in zip(("left", "a", "s", "right", "p", "i"), pictures, strict=True):
        rgb = picture[..., :3].astype(int)
        strength[name] = (rgb.max(axis=2) - rgb.min(axis=2)).max()
    assert strength["left"] > strength["right"] + 10


@pytest.mark.parametrize("layout", ["slices", "views"])
def test_letters_say_what_lies_on_the_sides(layout, marked):
    scan, map_ = marked()
    subject = Subject.of(scan, map_.data, [])
    rows, _ = rows_of(subject, FigureSpec(layout=layout))
    ends = {picture.caption.split()[0]: picture.ends for row in rows for picture in row}
    expected = {"x": ("A", "P"), "y": ("R", "L"), "z": ("R", "L")}
    if layout == "views":
        expected = {
            "left": ("A", "P"), "right": ("P", "A"), "anterior": ("R", "L"),
            "posterior": ("L", "R"), "superior": ("L", "R"), "inferior": ("R", "L"),
        }  # fmt: skip
    assert ends == expected
