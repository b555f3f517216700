"""Conforming to a model's grid, and back."""

import json
from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_cnnvis.errors import VolumeError
from napari_cnnvis.scan.conform import InputSpec, conform
from napari_cnnvis.scan.intensity import INTENSITY_RULES
from napari_cnnvis.scan.volume import Volume

ORIENTATIONS = [
    "".join(letters) for axes in permutations(("RL", "AP", "SI")) for letters in product(*axes)
]
LPI = np.array([[-1.5, 0, 0, 40], [0, -2, 0, 55], [0, 0, -2.5, 12], [0, 0, 0, 1]])
OBLIQUE = np.array([[1.9, 0.3, -0.2, -9], [-0.3, 1.1, 0.1, 4], [0.3, -0.2, 2.4, 2], [0, 0, 0, 1]])
shapes = st.tuples(*[st.integers(1, 9)] * 3)
affines = st.sampled_from([np.eye(4), LPI, OBLIQUE])
orientations = st.none() | st.sampled_from(ORIENTATIONS)


def numbered(shape, first=1):
    """Every voxel has its own value, exact in float32."""
    return np.arange(first, first + np.prod(shape), dtype=np.float32).reshape(shape)


def in_mm(affine, indices):
    return np.asarray(indices) @ affine[:3, :3].T + affine[:3, 3]


def all_in_mm(affine, shape):
    return in_mm(affine, np.moveaxis(np.indices(shape), 0, -1))


def ramp(affine, shape):
    """Intensities that depend linearly on the position in mm."""
    return all_in_mm(affine, shape) @ [0.7, -1.3, 0.4] + 200


def raw(**asked):
    return InputSpec(intensity="none", **asked)


@given(shapes, shapes, orientations, affines)
def test_without_resampling_voxels_keep_value_and_place(shape, target, orientation, affine):
    volume = Volume(numbered(shape), affine)
    conformed = conform(volume, raw(shape=target, orientation=orientation))
    assert conformed.data.shape == target
    found = np.argwhere(conformed.data)
    source = np.argwhere(np.isin(volume.data, conformed.data))
    order = np.argsort(conformed.data[tuple(found.T)])
    np.testing.assert_allclose(
        in_mm(conformed.affine, found[order]), in_mm(affine, source), atol=1e-9
    )
    oriented = shape if orientation is None else volume.reoriented(orientation).shape
    assert len(found) == np.prod(np.minimum(oriented, target))


@given(shapes, shapes, orientations, affines)
def test_back_undoes_flips_permutations_crops_and_pads(shape, target, orientation, affine):
    volume = Volume(numbered(shape), affine)
    conformed = conform(volume, raw(shape=target, orientation=orientation))
    back = conformed.back(conformed.data)
    kept = np.isin(volume.data, conformed.data)
    np.testing.assert_array_equal(back, np.where(kept, volume.data, 0))


@given(shapes, st.tuples(*[st.integers(0, 5)] * 3), orientations)
def test_padding_is_undone_completely(shape, margin, orientation):
    volume = Volume(numbered(shape), LPI)
    oriented = volume.reoriented(orientation or "LPI").shape
    larger = tuple(np.add(oriented, margin))
    conformed = conform(volume, raw(shape=larger, orientation=orientation))
    np.testing.assert_array_equal(conformed.back(conformed.data), volume.data)


@given(shapes, shapes)
def test_crops_and_pads_are_about_the_centre(shape, target):
    volume = Volume(np.zeros(shape), LPI)
    conformed = conform(volume, raw(shape=target))
    centre = in_mm(conformed.affine, (np.array(target) - 1) / 2)
    offset = np.linalg.solve(LPI[:3, :3], centre - LPI[:3, 3]) - (np.array(shape) - 1) / 2
    assert np.abs(offset).max() <= 0.5 + 1e-9


def test_orientation_is_that_of_the_model():
    conformed = conform(Volume(numbered((3, 4, 5)), LPI), raw(orientation="SAR"))
    assert Volume(conformed.data, conformed.affine).orientation == "SAR"
    np.testing.assert_array_equal(conformed.data, numbered((3, 4, 5))[::-1, ::-1, ::-1].T)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (3.1, 2.9, 2.6), (0.8, 4.0, 2.5)])
@pytest.mark.parametrize("affine", [LPI, OBLIQUE], ids=["LPI", "oblique"])
def test_a_linear_ramp_is_resampled_exactly_inside(affine, spacing):
    shape = (24, 40, 26)
    conformed = conform(Volume(ramp(affine, shape), affine), raw(spacing=spacing))
    step = np.array(spacing) / np.linalg.norm(affine[:3, :3], axis=0)
    margin = np.ceil(2 + 2 / np.minimum(step, 1)).astype(int)
    inside = tuple(slice(m, n - m) for m, n in zip(margin, conformed.data.shape, strict=True))
    assert conformed.data[inside].size > 50
    expected = ramp(conformed.affine, conformed.data.shape)
    np.testing.assert_allclose(conformed.data[inside], expected[inside], rtol=2e-5)


@given(affines, st.tuples(*[st.floats(0.7, 4)] * 3), shapes.map(lambda s: tuple(np.add(s, 8))))
def test_resampling_keeps_the_outer_edges_and_nearly_the_spacing(affine, spacing, shape):
    conformed = conform(Volume(np.ones(shape), affine), raw(spacing=spacing))
    edges = [in_mm(affine, np.full(3, -0.5)), in_mm(affine, np.array(shape) - 0.5)]
    new = np.array(conformed.data.shape)
    np.testing.assert_allclose(in_mm(conformed.affine, np.full(3, -0.5)), edges[0], atol=1e-9)
    np.testing.assert_allclose(in_mm(conformed.affine, new - 0.5), edges[1], atol=1e-9)
    extent = np.array(shape) * np.linalg.norm(affine[:3, :3], axis=0)
    assert (np.abs(extent / spacing - new) <= 0.5 + 1e-6).all()
    np.testing.assert_allclose(conformed.spacing, extent / new)


def test_a_bright_spot_stays_at_its_mm_position_through_every_step():
    shape = (40, 44, 36)
    spot = in_mm(OBLIQUE, (17, 25, 16))
    distance = np.linalg.norm(all_in_mm(OBLIQUE, shape) - spot, axis=-1)
    volume = Volume(np.exp(-((distance / 5) ** 2)), OBLIQUE)
    spec = raw(shape=(50, 40, 45), spacing=(1.7, 1.6, 2.1), orientation="PSR")
    conformed = conform(volume, spec)
    places = all_in_mm(conformed.affine, conformed.data.shape)
    centre = np.average(places.reshape(-1, 3), axis=0, weights=conformed.data.ravel())
    np.testing.assert_allclose(centre, spot, atol=0.15)

    back = conformed.back(conformed.data)
    centre = np.average(all_in_mm(OBLIQUE, shape).reshape(-1, 3), axis=0, weights=back.ravel())
    np.testing.assert_allclose(centre, spot, atol=0.15)


def test_a_constant_result_comes_back_constant():
    conformed = conform(Volume(np.ones((9, 10, 11)), LPI), raw(spacing=(2.0, 2.0, 2.0)))
    np.testing.assert_allclose(conformed.back(np.full(conformed.data.shape, 3)), 3, rtol=1e-6)


def test_spacing_that_is_already_right_resamples_nothing():
    volume = Volume(numbered((5, 6, 7)), LPI)
    conformed = conform(volume, raw(spacing=(1.5001, 2.0, 2.5)))
    np.testing.assert_array_equal(conformed.data, volume.data)
    np.testing.assert_array_equal(conformed.affine, LPI)


@given(shapes, shapes, orientations)
def test_labels_follow_the_data_exactly_without_resampling(shape, target, orientation):
    volume = Volume(numbered(shape), LPI)
    conformed = conform(volume, raw(shape=target, orientation=orientation))
    labels = conformed.labels(volume.data.astype(np.int32))
    assert labels.dtype == np.int32
    np.testing.assert_array_equal(labels, conformed.data)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int64])
def test_resampled_labels_are_those_of_the_nearest_voxel(dtype):
    labels = np.random.default_rng(1).integers(0, 200, (11, 12, 13)).astype(dtype)
    spec = raw(orientation="SAR", spacing=(1.9, 2.9, 2.2))
    conformed = conform(Volume(labels, OBLIQUE), spec)
    result = conformed.labels(labels)
    places = all_in_mm(conformed.affine, result.shape) - OBLIQUE[:3, 3]
    exact = places @ np.linalg.inv(OBLIQUE[:3, :3]).T
    near_a_tie = (np.abs(exact - np.floor(exact) - 0.5) < 1e-6).any(-1)
    voxels = np.clip(np.rint(exact).astype(int), 0, np.array(labels.shape) - 1)
    expected = labels[tuple(np.moveaxis(voxels, -1, 0))]
    assert result.dtype == dtype
    assert near_a_tie.mean() < 0.5
    np.testing.assert_array_equal(result[~near_a_tie], expected[~near_a_tie])


NOISE = np.random.default_rng(0).normal(3, 2, (6, 7, 8)).astype(np.float32)


def conformed_noise(rule):
    return conform(Volume(NOISE), InputSpec(intensity=rule)).data


def test_max_divides_by_the_maximum():
    np.testing.assert_allclose(conformed_noise("max"), NOISE / NOISE.max(), rtol=1e-6)
    assert conformed_noise("max").dtype == np.float32


def test_none_changes_nothing():
    np.testing.assert_array_equal(conformed_noise("none"), NOISE)


def test_z_score_is_that_of_the_non_zero_voxels():
    scan = np.where(NOISE > 3, NOISE, 0)
    brain = scan[scan > 0].astype(np.float64)
    result = conform(Volume(scan), InputSpec(intensity="z-score")).data
    np.testing.assert_allclose(result, (scan - brain.mean()) / brain.std(), atol=1e-5)


def test_percentile_maps_the_1st_to_0_and_the_99th_to_1():
    low, high = np.percentile(NOISE, [1, 99])
    result = conformed_noise("percentile")
    np.testing.assert_allclose(result, ((NOISE - low) / (high - low)).clip(0, 1), atol=1e-6)
    assert (result.min(), result.max()) == (0, 1)


@pytest.mark.parametrize("rule", INTENSITY_RULES)
@pytest.mark.parametrize("value", [0, 5, -5])
def test_a_constant_scan_stays_finite(rule, value):
    result = conform(Volume(np.full((4, 4, 4), value)), InputSpec(intensity=rule)).data
    assert np.isfinite(result).all()


def test_cropping_content_is_noted():
    data = np.zeros((10, 10, 10))
    data[0], data[5] = 1, 3
    (note,) = conform(Volume(data, name="scan"), raw(shape=(6, 10, 10))).notes
    assert note.startswith("25.0% of 'scan'")
    assert "6 x 10 x 10" in note


def test_cropping_empty_space_is_not_noted():
    data = np.zeros((10, 10, 10))
    data[5] = 3
    assert conform(Volume(data), raw(shape=(6, 12, 10))).notes == ()


def test_unknown_orientation_is_noted_and_nothing_is_flipped():
    volume = Volume(numbered((3, 4, 5)), LPI, "scan", orientation_known=False)
    conformed = conform(volume, raw(orientation="RAS"))
    np.testing.assert_array_equal(conformed.data, volume.data)
    (note,) = conformed.notes
    assert "'scan' does not say how it is oriented" in note
    assert conform(volume, raw()).notes == ()


@pytest.mark.parametrize(
    "asked",
    [
        {"shape": (5, 5)},
        {"shape": (5, 5, 0)},
        {"spacing": (1, 1, -1)},
        {"orientation": "RAR"},
        {"intensity": "histogram"},
        {"window": (5, 5)},
        {"window": (5, 5, -1)},
        {"window": (5, 5, 5), "shape": (5, 5, 5)},
        {"overlap": 1},
        {"overlap": -0.1},
        {"overlap": "half"},
        {"channels": 0},
        {"channels": 1.5},
        {"channels": "1"},
    ],
)
def test_a_wrong_input_spec_is_refused(plain, asked):
    with pytest.raises(VolumeError) as caught:
        InputSpec(**asked)
    plain(caught.value)


def test_input_spec_round_trips_through_plain_values():
    spec = InputSpec([5, 6, 7], [1, 2, 3], "LPI", "z-score", 3, resize=True)
    assert spec.shape == (5, 6, 7)
    assert InputSpec(**spec.to_dict()) == spec
    spec = InputSpec(window=[5, 6, 7], overlap=0.25)
    assert InputSpec(**json.loads(json.dumps(spec.to_dict()))) == spec


def test_range_maps_the_minimum_to_0_and_the_maximum_to_1():
    result = conformed_noise("range")
    np.testing.assert_allclose(result, (NOISE - NOISE.min()) / np.ptp(NOISE), atol=1e-6)
    assert (result.min(), result.max()) == (0, 1)


@given(st.integers(1, 3), shapes, orientations)
def test_channels_are_conformed_like_single_scans(n, target, orientation):
    spec = InputSpec(target, orientation=orientation, channels=n)
    scans = [Volume(numbered((4, 5, 6), first), LPI, f"T{first}") for first in range(1, n + 1)]
    conformed = conform(scans, spec)
    assert conformed.channels.shape == (n, *target)
    for channel, scan in zip(conformed.channels, scans, strict=True):
        alone = conform(scan, InputSpec(target, orientation=orientation))
        np.testing.assert_array_equal(channel, alone.data)
        np.testing.assert_array_equal(conformed.affine, alone.affine)


def test_each_channel_has_its_own_intensities():
    scans = [Volume(NOISE), Volume(NOISE * 7)]
    first, second = conform(scans, InputSpec(channels=2)).channels
    np.testing.assert_allclose(first, second, rtol=1e-6)


@pytest.mark.parametrize("n", [0, 1, 3])
def test_another_number_of_scans_than_channels_is_refused(plain, n):
    with pytest.raises(VolumeError) as caught:
        conform([Volume(NOISE)] * n, InputSpec(channels=2))
    assert "one for each" in plain(caught.value)


@pytest.mark.parametrize(
    "other", [Volume(NOISE[1:], name="T2"), Volume(NOISE, np.diag([1, 1, 1.01, 1]), "T2")]
)
def test_channels_on_other_grids_are_refused(plain, other):
    with pytest.raises(VolumeError) as caught:
        conform([Volume(NOISE, name="T1"), other], InputSpec(channels=2))
    plain(caught.value, "'T2' is not on the grid of 'T1'")


@given(shapes, shapes)
def test_a_scan_is_padded_to_one_window_at_least_and_never_cropped(shape, window):
    volume = Volume(numbered(shape), LPI)
    conformed = conform(volume, raw(window=window))
    assert conformed.data.shape == tuple(np.maximum(shape, window))
    assert conformed.notes == volume.notes  # one voxel is the same everywhere
    np.testing.assert_array_equal(conformed.back(conformed.data), volume.data)
    np.testing.assert_allclose(
        in_mm(conformed.affine, np.argwhere(conformed.data)),
        in_mm(LPI, np.argwhere(volume.data)),
        atol=1e-9,
    )


def test_a_window_is_measured_after_resampling():
    conformed = conform(Volume(np.ones((8, 8, 8)), np.diag([2, 2, 2, 1])), raw(window=(9, 9, 20), spacing=(1, 1, 1)))  # fmt: skip
    assert conformed.data.shape == (16, 16, 20)


@given(
    affines, shapes.map(lambda s: tuple(np.add(s, 3))), shapes.map(lambda s: tuple(np.add(s, 3)))
)
def test_resizing_keeps_the_outer_edges(affine, shape, target):
    volume = Volume(np.ones(shape), affine)
    conformed = conform(volume, raw(shape=target, resize=True))
    assert conformed.data.shape == target
    np.testing.assert_allclose(conformed.data, 1, rtol=1e-5)
    for corner in product((0, 1), repeat=3):
        np.testing.assert_allclose(
            in_mm(conformed.affine, np.multiply(corner, target) - 0.5),
            in_mm(affine, np.multiply(corner, shape) - 0.5),
            atol=1e-9,
        )
    assert conformed.notes == volume.notes


@pytest.mark.parametrize("target", [(30, 25, 40), (12, 50, 13)])
@pytest.mark.parametrize("affine", [LPI, OBLIQUE], ids=["LPI", "oblique"])
def test_a_resized_linear_ramp_is_exact_inside_and_comes_back(affine, target):
    shape = (24, 40, 26)
    volume = Volume(ramp(affine, shape), affine)
    conformed = conform(volume, raw(shape=target, resize=True))
    inside = tuple(slice(4, n - 4) for n in target)
    expected = ramp(conformed.affine, target)
    np.testing.assert_allclose(conformed.data[inside], expected[inside], rtol=2e-5)
    inside = tuple(slice(9, n - 9) for n in shape)
    back = conformed.back(conformed.data)
    np.testing.assert_allclose(back[inside], volume.data[inside], rtol=2e-5)


def test_resizing_after_reorienting_is_along_the_model_s_axes():
    conformed = conform(Volume(ramp(LPI, (10, 11, 12)), LPI), raw(shape=(24, 22, 20), orientation="SAR", resize=True))  # fmt: skip
    inside = (slice(4, -4),) * 3
    np.testing.assert_allclose(
        conformed.data[inside], ramp(conformed.affine, (24, 22, 20))[inside], rtol=2e-5
    )


def test_without_a_shape_nothing_is_resized():
    volume = Volume(numbered((4, 5, 6)), LPI)
    np.testing.assert_array_equal(conform(volume, raw(resize=True)).data, volume.data)
