"""FigureSpec: plain values there and back, and what is refused."""

import json

import pytest

from napari_cnnvis.errors import CnnVisError
from napari_cnnvis.figure.spec import FigureSpec


def test_a_spec_survives_json():
    spec = FigureSpec(
        layout="lightbox", positions=((1, 2, 3),), span=(-20, 30.5), limits=(-1, 1), title="a · b"
    )
    assert FigureSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


def test_pixels_are_width_times_dpi():
    assert FigureSpec(width_mm=127, dpi=200).pixels == 1000


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"layout": "3d"}, "slices, lightbox, views"),
        ({"background": "pink"}, "transparent"),
        ({"limits": (-1, 3)}, "symmetric"),
        ({"limits": (3, 1)}, "rising"),
        ({"limits": 3}, "needs 2 numbers"),
        ({"width_mm": 5}, "too narrow"),
        ({"width_mm": "wide"}, "not a number"),
        ({"dpi": 0}, "above 0"),
        ({"dpi": 90_000}, "pixels"),
        ({"threshold": float("nan")}, "not a number"),
        ({"count": 0}, "slices"),
        ({"count": 2.5}, "slices"),
        ({"positions": ((1, 2),)}, "needs 3 numbers"),
        ({"colour": 1}, "newer version"),
    ],
)
def test_impossible_values_are_refused_in_plain_words(values, word, plain):
    with pytest.raises(CnnVisError, match=word) as caught:
        FigureSpec.from_dict(values)
    plain(caught.value)


@pytest.mark.parametrize("values", [None, [1], "slices"])
def test_what_is_no_description_is_refused(values):
    with pytest.raises(CnnVisError, match="not the description"):
        FigureSpec.from_dict(values)
