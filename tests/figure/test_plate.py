"""What a plate shows: places, sizes, colours, words."""

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.lines import Line2D

from napari_cnnvis.errors import CnnVisError, VolumeError
from napari_cnnvis.figure.colours import colours_of
from napari_cnnvis.figure.furniture import ColourBar
from napari_cnnvis.figure.geometry import VIEWS
from napari_cnnvis.figure.plate import draw_frame, draw_plate, pixels_of
from napari_cnnvis.figure.projections import project_map, project_scan
from napari_cnnvis.figure.spec import FigureSpec
from napari_cnnvis.scan.volume import Volume

SHAPE = (24, 28, 20)
#: a plate without anything coloured but the map
PLAIN = {"colour_bar": False, "scale_bar": False, "title": "", "dpi": 100, "width_mm": 90}
PROVENANCE = {
    "method": "UCM sensitivity",
    "class_name": "atrophy",
    "quantity": "drop",
    "score": "probability",
}


def texts(plate):
    return [text.get_text() for text in plate.figure.texts]


def lines(plate):
    """The scale bar's; ticks and frames are thinner."""
    return plate.figure.findobj(lambda a: isinstance(a, Line2D) and a.get_linewidth() == 2.0)


def uniform(value, map_value=0.0):
    """A head of one value in an empty background, and a map of one value."""
    head = np.zeros(SHAPE)
    head[2:-2, 2:-2, 2:-2] = value
    return Volume(head, name="scan"), Volume(np.full(SHAPE, map_value), name="map")


@pytest.mark.parametrize("background", ["black", "white"])
@pytest.mark.parametrize("value", [0.25, 0.7, 1.0])
def test_colour_at_a_value_is_the_tables_over_the_scans_gray(panels, background, value):
    scan, map_ = uniform(0.4, value)
    pictures = panels(
        scan, map_, positions=((12, 12, 12),), scan_limits=(0, 1), limits=(0, 1), crop=False,
        background=background,
    )  # fmt: skip
    rgba = colours_of(np.array(value), (0, 1))
    expected = 255 * (rgba[:3] * rgba[3] + 0.4 * (1 - rgba[3]))
    middle = pictures[2][pictures[2].shape[0] // 2, pictures[2].shape[1] // 2, :3]
    np.testing.assert_allclose(middle, expected, atol=1)


def test_a_views_colour_is_of_the_maps_own_value():
    values, head = np.zeros((6, 5, 4)), np.ones((6, 5, 4), bool)
    values[1, 2, 2], values[4, 2, 2] = 0.7, 0.72
    shown, near = project_map(values, head, VIEWS["left"], (10.0, 10.0, 10.0))
    assert shown[1, 2] == np.float32(0.7)  # the nearer one, as it is
    assert 0 < near[1, 2] < 1
    shown, _ = project_map(values, head, VIEWS["right"], (10.0, 10.0, 10.0))
    assert shown[1, 2] == np.float32(0.72)


def test_a_view_of_the_scan_is_weakened_by_what_lies_before():
    gray = np.zeros((3, 1, 1), np.float32)
    gray[:, 0, 0] = [0.5, 0.0, 1.0]
    assert project_scan(gray, VIEWS["left"], (12.0, 1, 1))[0, 0] == pytest.approx(np.exp(-0.5))
    assert project_scan(gray, VIEWS["right"], (12.0, 1, 1))[0, 0] == 1


@pytest.mark.parametrize("layout", ["slices", "lightbox", "views"])
@pytest.mark.parametrize(("width", "dpi"), [(90.0, 100.0), (85.3, 147.0)])
def test_width_in_pixels_is_millimetres_times_dpi(layout, width, dpi, marked):
    spec = FigureSpec(layout=layout, width_mm=width, dpi=dpi)
    assert pixels_of(draw_plate(*marked(), spec)).shape[1] == round(width / 25.4 * dpi)


def test_each_picture_has_its_aspect_in_millimetres(panels, marked):
    pictures = panels(*marked(spacing=(1.0, 1.0, 5.0)), positions=((-7, 7, 20),), crop=False)
    i, j, k = SHAPE[0] * 1.0, SHAPE[1] * 1.0, SHAPE[2] * 5.0
    for picture, (height, width) in zip(pictures, [(k, j), (k, i), (j, i)], strict=True):
        rows, columns = picture.shape[:2]
        assert rows / columns == pytest.approx(height / width, rel=0.03)
    scale = [p.shape[1] / w for p, w in zip(pictures, (j, i, i), strict=True)]
    np.testing.assert_allclose(scale, scale[0], rtol=0.03)


def test_a_slice_at_a_position_shows_its_voxels(panels):
    rng = np.random.default_rng(0)
    data = rng.random((10, 12, 8))
    affine = np.diag([2.0, 2, 2, 1])
    affine[:3, 3] = [-9, -11, -7]
    scan = Volume(data, affine, "scan").reoriented("LPI")
    map_ = replace(scan, data=np.zeros_like(scan.data))
    *_, axial = panels(
        scan, map_, positions=((0.2, 1, 3.3),), scan_limits=(0, 1), crop=False, smooth=False
    )
    # z = 3.3 mm is in voxel 5; radiological: front up, the patient's right on the left
    expected = data[::-1, ::-1, 5].T
    rows = ((np.arange(12) + 0.5) * axial.shape[0] / 12).astype(int)
    columns = ((np.arange(10) + 0.5) * axial.shape[1] / 10).astype(int)
    np.testing.assert_allclose(axial[np.ix_(rows, columns)][..., 0] / 255, expected, atol=0.01)


def test_positions_are_written_in_millimetres_of_the_slices(marked):
    plate = draw_plate(*marked(), FigureSpec(positions=((-14.3, 13.1, 8), (0, 0, 0))))
    assert [t for t in texts(plate) if "mm" in t and "=" in t] == [
        "x = −14 mm", "y = 14 mm", "z = 8 mm", "x = 0 mm", "y = 0 mm", "z = 0 mm",
    ]  # fmt: skip


def test_without_positions_slices_go_through_the_largest_size(marked):
    scan, map_ = marked()
    data = map_.data.copy()
    data[15, 10, 7] = -3
    plate = draw_plate(scan, replace(map_, data=data), FigureSpec())
    assert {"x = 6 mm", "y = −8 mm", "z = −6 mm"} <= set(texts(plate))
    assert any("peak, -3 at" in note for note in plate.notes)


def test_lightbox_from_here_to_there(marked):
    plate = draw_plate(*marked(), FigureSpec(layout="lightbox", span=(-8, 8), count=5))
    assert [t for t in texts(plate) if "=" in t] == [f"z = {n} mm" for n in ("−8", "−4", 0, 4, 8)]


def test_a_lightbox_of_more_slices_than_there_are_says_so(marked):
    plate = draw_plate(*marked(), FigureSpec(layout="lightbox", span=(-4, 4), count=50))
    assert len([t for t in texts(plate) if "=" in t]) == 5
    assert any("5 slices" in note for note in plate.notes)


def test_cropping_keeps_the_map_and_the_place(panels, marked):
    scan, map_ = marked()
    data = np.zeros(SHAPE)
    data[0:2, 14, 10] = 1.0  # outside the head
    for position in (((0, 0, 0),), ((-24, 0, 0),), ((22, 26, 18),)):
        pictures = panels(scan, replace(map_, data=data), positions=position)
        assert len(pictures) == 3
    *_, axial = panels(scan, replace(map_, data=data), positions=((0, 0, 0),))
    assert np.ptp(axial[..., :3].astype(int), axis=2).max() > 40


def test_map_outside_the_head_can_be_left_out(marked):
    scan, map_ = marked()
    data = map_.data.copy()
    data[0, 14, 10] = 4.0
    plate = draw_plate(scan, replace(map_, data=data), FigureSpec(head_only=True))
    assert plate.limits == (0.0, 1.0)
    assert any("outside the head is not drawn" in note for note in plate.notes)


def test_title_and_unit_come_from_the_provenance(marked):
    plate = draw_plate(*marked(), FigureSpec(), PROVENANCE | {"partial": True})
    assert "UCM sensitivity · atrophy (partial)" in texts(plate)
    assert "drop of the probability" in texts(plate)


def test_title_and_unit_can_be_given(marked):
    plate = draw_plate(*marked(), FigureSpec(title="Costs $5 or $6", unit="points"), PROVENANCE)
    assert {"Costs $5 or $6", "points"} <= set(texts(plate))
    pixels_of(plate)  # dollars are no formula


def test_without_provenance_the_maps_name_is_the_title(marked):
    assert "map" in texts(draw_plate(*marked(), FigureSpec()))


@pytest.mark.parametrize(
    ("limits", "ends", "labels", "below"),
    [
        ((0, 1.0), (0, 1.0), ["0", "0.5", "1"], ""),
        ((0, 0.3), (0, 0.25), ["0", "0.1", "0.2", "0.3"], ""),
        ((-2.0, 2.0), (-1, 2), ["−2", "−1", "0", "1", "2"], ""),
        ((0, 5e-5), (0, 6e-5), ["0", "2.5", "≥ 5"], "× 10⁻⁵"),
        ((-2e4, 2e4), (-3e4, 1), ["≤ −2", "−1", "0", "1", "2"], "× 10⁴"),
        ((0.2, 1.0), (0, 1), ["0.2", "0.6", "1"], ""),
    ],
)
def test_ticks_of_the_colour_bar(limits, ends, labels, below):
    ticks, text = ColourBar(limits, 0.0, "", ends).labels()
    assert [label for _, label in ticks] == labels
    assert text == below
    assert ticks[-1][0] == pytest.approx(limits[1])


def test_scale_bar_is_as_long_as_it_says(marked):
    plate = draw_plate(*marked(), FigureSpec(positions=((0, 0, 0),), colour_bar=False))
    (text,) = (t for t in texts(plate) if t.endswith("mm") and "=" not in t)
    x0, x1 = lines(plate)[0].get_xdata()
    paper = (x1 - x0) * 180
    axial = plate.figure.axes[-1]
    columns = axial.images[0].get_array().shape[1]
    patient = (24 - 6 + 4) * 2  # the head and 4 mm of air on both sides
    assert paper / float(text.split()[0]) == pytest.approx(columns / 300 * 25.4 / patient, rel=0.01)


def test_empty_map_is_a_picture_with_a_note(marked):
    scan, map_ = marked()
    empty = replace(map_, data=np.zeros(SHAPE))
    for layout in ("slices", "lightbox", "views"):
        plate = draw_plate(scan, empty, FigureSpec(layout=layout, dpi=60))
        assert any("0 everywhere" in note for note in plate.notes)
        plate = draw_plate(scan, empty, FigureSpec(layout=layout, dpi=60, colour_bar=False))
        assert np.ptp(pixels_of(plate)[..., :3].astype(int), axis=2).max() == 0
        assert pixels_of(plate)[..., 0].max() == 255


def test_a_scan_of_one_value_is_a_picture_with_a_note():
    plate = draw_plate(Volume(np.ones(SHAPE)), Volume(np.ones(SHAPE)), FigureSpec(dpi=60))
    assert any("one value" in note for note in plate.notes)
    pixels_of(plate)


def test_an_oblique_scan_is_drawn_and_said(marked):
    a = np.deg2rad(15)
    turn = np.eye(4)
    turn[1:3, 1:3] = [[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]]
    scan, map_ = (replace(v, affine=turn @ v.affine) for v in marked())
    plate = draw_plate(scan, map_, FigureSpec(dpi=60))
    assert any("oblique" in note for note in plate.notes)


def test_unknown_orientation_has_no_letters(marked):
    scan, map_ = (replace(v, orientation_known=False) for v in marked())
    assert not {"L", "R", "A", "P"} & set(texts(draw_plate(scan, map_, FigureSpec())))


@pytest.mark.parametrize("how", ["shape", "place"])
def test_a_map_on_another_grid_is_refused(how, plain, marked):
    scan, map_ = marked()
    if how == "shape":
        other = Volume(np.ones((4, 5, 6)), name="map")
    else:
        other = replace(map_, affine=map_.affine + np.eye(4, k=3))
    with pytest.raises(VolumeError, match="not on the grid") as caught:
        draw_plate(scan, other, FigureSpec())
    plain(caught.value, "'map'")


def test_a_figure_too_large_for_memory_is_refused(plain, marked):
    scan, map_ = marked(spacing=(1, 1, 40.0))
    spec = FigureSpec(width_mm=400, dpi=1200, positions=((0, 0, 0),) * 8)
    with pytest.raises(CnnVisError, match="too large") as caught:
        draw_plate(scan, map_, spec)
    plain(caught.value)


def test_a_transparent_page_is_transparent_around_head_and_map(marked):
    spec = FigureSpec(**PLAIN | {"background": "transparent"}, letters=False, crop=False)
    pixels = pixels_of(draw_plate(*marked(), spec))
    assert pixels[0, 0, 3] == 0
    assert (pixels[..., 3] == 255).mean() > 0.2


def test_negative_values_below_the_limits_are_said(marked):
    scan, map_ = marked()
    plate = draw_plate(scan, replace(map_, data=-map_.data), FigureSpec(limits=(0, 1)))
    assert any("Negative values" in note for note in plate.notes)


def test_a_rendered_picture_gets_title_bar_and_scale():
    canvas = np.zeros((100, 300, 4), np.uint8)
    canvas[..., 3] = 255
    canvas[:, 150:, 0] = 255
    spec = FigureSpec(width_mm=76.2, dpi=100)
    plate = draw_frame(canvas, spec, "From the left", ColourBar((0, 1), 0, "logit", (0, 1)), 2.0)
    assert {"From the left", "logit"} <= set(texts(plate))
    pixels = pixels_of(plate)
    assert pixels.shape[1] == 300
    red = (pixels[..., 0] == 255) & (pixels[..., 1] == 0)
    assert red.sum() == 100 * 150
    (text,) = (t for t in texts(plate) if t.endswith("mm"))
    x0, x1 = lines(plate)[-1].get_xdata()
    assert (x1 - x0) * 300 == pytest.approx(2.0 * float(text.split()[0]), rel=0.01)
