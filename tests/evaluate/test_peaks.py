"""Peaks of a map: every local maximum, none else, at its place in millimetres."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from napari_cnnvis.errors import MethodError
from napari_cnnvis.evaluate.peaks import Peak, find_extrema, find_peaks

OBLIQUE = np.array([[0, -1.2, 0.4, 7], [1.9, 0, 0.1, -3], [0, 0.5, 2.8, 11], [0, 0, 0, 1.0]])
small_maps = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=5),
    elements=st.integers(-3, 3).map(float),
)


def plateaus(map):
    """Sets of touching voxels of one value above 0 with no higher voxel around, voxel by voxel."""
    found, seen = [], set()
    for start in np.ndindex(map.shape):
        if start in seen or map[start] <= 0:
            continue
        group, todo, highest = {start}, [start], True
        while todo:
            voxel = todo.pop()
            for step in itertools.product((-1, 0, 1), repeat=3):
                other = tuple(int(v + s) for v, s in zip(voxel, step, strict=True))
                if any(not 0 <= o < n for o, n in zip(other, map.shape, strict=True)):
                    continue
                highest &= map[other] <= map[start]
                if map[other] == map[start] and other not in group:
                    group.add(other)
                    todo.append(other)
        seen |= group
        if highest:
            found.append(sorted(group))
    return found


def test_one_voxel_is_one_peak_with_its_place():
    map = np.zeros((6, 7, 8), np.float32)
    map[2, 3, 4] = 5
    (peak,) = find_peaks(map, OBLIQUE)
    assert peak == Peak((2, 3, 4), tuple((OBLIQUE @ [2, 3, 4, 1])[:3]), 5.0)


def test_peaks_are_listed_from_the_highest_down_and_at_most_n():
    map = np.zeros((40, 5, 5))
    for place, value in ((2, 3.0), (12, 9.0), (22, 1.0), (32, 5.0)):
        map[place, 2, 2] = value
    assert [p.value for p in find_peaks(map, np.eye(4))] == [9, 5, 3, 1]
    assert [p.value for p in find_peaks(map, np.eye(4), n=2)] == [9, 5]
    assert find_peaks(map, np.eye(4), n=0) == []


def test_distance_is_measured_in_millimetres():
    map = np.zeros((5, 5, 9))
    map[2, 2, 2], map[2, 2, 6] = 2, 1  # 4 voxels apart
    assert len(find_peaks(map, np.diag([9, 9, 1.9, 1]), minimum_distance_mm=8)) == 1
    assert len(find_peaks(map, np.diag([1, 1, 2.0, 1]), minimum_distance_mm=8)) == 2


def test_a_peak_near_one_that_was_left_out_is_kept():
    map = np.zeros((30, 3, 3))
    map[5, 1, 1], map[10, 1, 1], map[15, 1, 1] = 3, 2, 1
    assert [p.voxel[0] for p in find_peaks(map, np.eye(4))] == [5, 15]


def test_a_plateau_is_one_peak_at_its_middle():
    map = np.zeros((12, 12, 12))
    map[2:7, 3:6, 4:9] = 4
    (peak,) = find_peaks(map, np.eye(4))
    assert peak.voxel == (4, 4, 6)


def test_a_bent_plateaus_peak_lies_on_it():
    map = np.zeros((9, 9, 3))
    map[1:8, 1, 1] = map[1, 1:8, 1] = map[7, 1:8, 1] = 1  # a U
    (peak,) = find_peaks(map, np.eye(4))
    assert map[peak.voxel] == 1
    on = np.argwhere(map == 1)
    away = np.linalg.norm(on - on.mean(axis=0), axis=1)
    assert np.linalg.norm(peak.voxel - on.mean(axis=0)) == pytest.approx(away.min())


def test_a_plateau_beside_something_higher_is_no_peak():
    map = np.zeros((9, 5, 5))
    map[1:7, 2, 2] = 1
    map[7, 2, 2] = 2
    assert [p.voxel for p in find_peaks(map, np.eye(4), minimum_distance_mm=0)] == [(7, 2, 2)]


def test_signed_maps_have_minima_too_and_only_if_asked():
    map = np.zeros((30, 3, 3))
    map[5, 1, 1], map[20, 1, 1] = 2, -3
    assert [p.value for p in find_peaks(map, np.eye(4), signed=True)] == [-3, 2]
    assert [p.value for p in find_peaks(map, np.eye(4))] == [2]


def test_threshold_and_inside_leave_peaks_out():
    map = np.zeros((30, 3, 3))
    map[5, 1, 1], map[15, 1, 1], map[25, 1, 1] = 1, 2, -3
    assert [p.value for p in find_peaks(map, np.eye(4), threshold=1, signed=True)] == [-3, 2]
    inside = np.zeros(map.shape, bool)
    inside[:10] = True
    assert [p.value for p in find_peaks(map, np.eye(4), inside=inside)] == [1]


def test_constant_empty_and_broken_maps():
    assert find_peaks(np.zeros((3, 4, 5)), np.eye(4), signed=True) == []
    assert find_peaks(-np.ones((3, 4, 5)), np.eye(4)) == []
    assert [p.voxel for p in find_peaks(np.ones((3, 5, 7)), np.eye(4))] == [(1, 2, 3)]
    map = np.array([[[1, np.nan, np.inf, 2]]])
    assert {p.value for p in find_peaks(map, np.eye(4), minimum_distance_mm=1)} == {1, 2}
    with pytest.raises(MethodError, match="3D"):
        find_peaks(np.zeros((3, 3)), np.eye(4))


@given(small_maps)
def test_extrema_are_those_found_voxel_by_voxel(map):
    extrema = find_extrema(map, OBLIQUE, signed=True)
    expected = [(map, group) for group in plateaus(map)]
    expected += [(map, group) for group in plateaus(-map)]
    assert len(extrema.values) == len(expected)
    found = {
        tuple(v): float(x) for v, x in zip(extrema.voxels.tolist(), extrema.values, strict=True)
    }
    for values, group in expected:
        places = (OBLIQUE[:3, :3] @ np.array(group).T).T
        away = ((places - places.mean(axis=0)) ** 2).sum(axis=1)
        (voxel,) = [v for v in group if v in found]
        assert found[voxel] == values[voxel]
        assert away[group.index(voxel)] == pytest.approx(away.min(), abs=1e-6)
    assert (np.diff(np.abs(extrema.values)) <= 0).all()
    np.testing.assert_allclose(extrema.mm, extrema.voxels @ OBLIQUE[:3, :3].T + OBLIQUE[:3, 3])


@given(small_maps, st.floats(0, 6))
def test_peaks_keep_their_distance_and_leave_no_gap(map, distance):
    peaks = find_peaks(map, np.diag([1, 2, 1.5, 1]), n=1000, minimum_distance_mm=distance)
    places = np.array([p.mm for p in peaks]).reshape(-1, 3)
    for a, b in itertools.combinations(range(len(peaks)), 2):
        assert np.linalg.norm(places[a] - places[b]) >= distance
    everything = find_extrema(map, np.diag([1, 2, 1.5, 1]))
    for mm, value in zip(everything.mm, everything.values, strict=True):
        near = [p for p in peaks if np.linalg.norm(np.subtract(p.mm, mm)) < max(distance, 1e-9)]
        assert any(p.value >= value for p in near)


@given(st.permutations(range(3)), st.lists(st.booleans(), min_size=3, max_size=3))
def test_flips_and_permutations_move_no_peak(order, flips):
    rng = np.random.default_rng(3)
    map = ndimage.gaussian_filter(rng.normal(size=(14, 15, 16)), 1.5)
    turned, affine = map.transpose(order), OBLIQUE[:, [*order, 3]].copy()
    for axis, flip in enumerate(flips):
        if flip:
            turned = np.flip(turned, axis)
            affine[:, 3] += affine[:, axis] * (turned.shape[axis] - 1)
            affine[:, axis] *= -1
    here = find_peaks(map, OBLIQUE, signed=True)
    there = find_peaks(turned, affine, signed=True)
    assert [p.value for p in here] == [p.value for p in there]
    np.testing.assert_allclose([p.mm for p in here], [p.mm for p in there])
