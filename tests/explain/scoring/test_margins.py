import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_cnnvis.explain.scoring.margins import with_margin


def slices_of(labels):
    """Flat indices of regions 1 .. n, one after the other, and where each begins and ends."""
    flat = [np.flatnonzero(labels == n) for n in range(1, labels.max() + 1)]
    ends = np.cumsum([len(f) for f in flat])
    return np.concatenate(flat), np.concatenate([[0], ends[:-1]]), ends


@given(
    seed=st.integers(0, 999),
    margin=st.sampled_from([1.0, 2.0, 2.5, 4.0]),
    spacing=st.sampled_from([(1, 1, 1), (2, 2, 2), (1, 2, 5)]),
)
def test_grown_region_is_all_that_is_near_and_inside(seed, margin, spacing):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, (6, 5, 4)) * (rng.random((6, 5, 4)) < 0.2)
    labels[0, 0, 0], labels[5, 4, 3] = 1, 2
    inside = (labels > 0) | (rng.random(labels.shape) < 0.7)
    indices, first, last = with_margin(*slices_of(labels), margin, spacing, inside)
    places = np.indices(labels.shape).reshape(3, -1).T * np.array(spacing)
    for n in (1, 2):
        own = places[(labels == n).ravel()]
        distance = np.linalg.norm(places[:, None] - own[None], axis=2).min(axis=1)
        expected = np.flatnonzero((distance <= margin + 1e-9) & inside.ravel())
        np.testing.assert_array_equal(np.sort(indices[first[n - 1] : last[n - 1]]), expected)


def test_a_region_without_voxels_stays_empty():
    inside = np.ones((4, 4, 4), bool)
    regions = np.array([5, 6]), np.array([0, 2]), np.array([2, 2])
    indices, first, last = with_margin(*regions, 2.0, (2, 2, 2), inside)
    assert last[1] == first[1] == len(indices)


@pytest.mark.parametrize("margin", [0.0, 0.9])
def test_less_than_a_voxel_changes_nothing(margin):
    labels = np.zeros((3, 3, 3), int)
    labels[1, 1, 1:] = 1
    indices, _, _ = with_margin(*slices_of(labels), margin, (1, 1, 1), labels >= 0)
    np.testing.assert_array_equal(indices, np.flatnonzero(labels))
