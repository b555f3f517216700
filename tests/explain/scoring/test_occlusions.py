import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_cnnvis.explain.scoring.baselines import make_baseline
from napari_cnnvis.explain.scoring.occlusions import RegionOcclusions, Subset
from napari_cnnvis.ucm.hierarchy import Hierarchy

SHAPE = (4, 3, 5)


def made(seed, baselines=(0, 1)):
    """Nested regions of a volume of few values, and what replaces their voxels."""
    rng = np.random.default_rng(seed)
    data = rng.integers(0, 3, SHAPE).astype(np.float32)
    fine = rng.integers(0, 30, SHAPE)
    hierarchy = Hierarchy.from_levels([fine, fine // 4, fine // 16])
    chosen = [make_baseline(data, b, (1, 1, 1)) for b in baselines]
    voxels, first, last = hierarchy.voxels()
    regions = [voxels[a:b] for a, b in zip(first, last, strict=True)]
    return data, regions, chosen, RegionOcclusions(voxels, first, last, chosen, SHAPE)


def entries(occlusions):
    return list(zip(occlusions.region, occlusions.baseline, strict=True))


@given(st.integers(0, 999))
def test_voxels_are_those_of_the_region_that_change(seed):
    data, regions, baselines, occlusions = made(seed)
    for i, (region, number) in enumerate(entries(occlusions)):
        inside = regions[region]
        changing = inside[data.flat[inside] != number]
        np.testing.assert_array_equal(np.sort(occlusions.voxels(i)), np.sort(changing))
        expected = baselines[number].values(occlusions.voxels(i))
        np.testing.assert_array_equal(occlusions.values(i), expected)


@given(st.integers(0, 999))
def test_regions_that_a_baseline_leaves_alone_are_left_out_for_it(seed):
    data, regions, _, occlusions = made(seed)
    expected = [
        (region, number)
        for region, voxels in enumerate(regions)
        for number in (0, 1)
        if (data.flat[voxels] != number).any()
    ]
    assert sorted(entries(occlusions)) == expected
    assert len(expected) < 2 * len(regions)


@given(st.integers(0, 999))
def test_boxes_bound_the_voxels_that_change(seed):
    *_, occlusions = made(seed, (0, "border", 1))
    assert occlusions.boxes.shape == (len(occlusions.region), 3, 2)
    for i, box in enumerate(occlusions.boxes):
        places = np.stack(np.unravel_index(occlusions.voxels(i), SHAPE))
        np.testing.assert_array_equal(box, np.stack([places.min(1), places.max(1) + 1], axis=1))


@given(st.integers(0, 999))
def test_the_most_voxels_come_first(seed):
    *_, occlusions = made(seed)
    sizes = [len(occlusions.voxels(i)) for i in range(len(occlusions.boxes))]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] > sizes[-1]


def test_nothing_changes_where_all_is_as_the_baseline():
    data = np.ones(SHAPE, np.float32)
    voxels, first, last = Hierarchy.from_levels([np.arange(60).reshape(SHAPE)]).voxels()
    baseline = make_baseline(data, 1, (1, 1, 1))
    occlusions = RegionOcclusions(voxels, first, last, [baseline, baseline], SHAPE)
    assert occlusions.boxes.shape == (0, 3, 2)


@pytest.mark.parametrize("members", [[3, 0, 7], [5], []])
def test_subset(members):
    *_, occlusions = made(0)
    subset = Subset(occlusions, np.array(members, np.int64))
    np.testing.assert_array_equal(subset.boxes, occlusions.boxes[members])
    for i, member in enumerate(members):
        np.testing.assert_array_equal(subset.voxels(i), occlusions.voxels(member))
        np.testing.assert_array_equal(subset.values(i), occlusions.values(member))
