import numpy as np
import pytest
from scipy import ndimage

from napari_cnnvis.scan.volume import Volume
from napari_cnnvis.ucm.build import build_hierarchy
from napari_cnnvis.ucm.criterion import MergeCriterion
from napari_cnnvis.ucm.region_graph import RegionGraph


def graph(features, sizes=(8.0, 8.0), strength=0.0, contact=4.0):
    sizes = np.array(sizes)
    means = np.array(features, float)  # (4, 2): feature, i, j, k
    return RegionGraph(
        sizes, means * sizes, np.array([[0], [1]]), np.array([contact]), np.array([strength])
    )


def cost(g, **weights):
    names = ("intensity", "low_step", "high_step", "boundary", "position")
    return MergeCriterion(**(dict.fromkeys(names, 0.0) | weights))(g)[0]


def test_with_intensity_alone_and_balance_one_it_is_ward():
    g = graph([[0.2, 0.7], [0, 9], [0, 0], [0, 0]], (8.0, 24.0))
    assert cost(g, balance=1.0) == pytest.approx(8 * 24 / 32 * 0.5**2)


def test_position_counts_less_beyond_its_reach():
    near = graph([[0, 0], [0, 3], [0, 4], [0, 0]])
    far = graph([[0, 0], [0, 0], [0, 0], [0, 5e4]])
    weights = {"position": 0.1, "reach": 10.0, "balance": 1.0}
    assert cost(near, **weights) == pytest.approx(4 * 0.1**2 * 25 / (1 + 25 / 100))
    assert cost(far, **weights) == pytest.approx(4 * 0.1**2 * 100, rel=1e-3)


def test_boundary_is_the_mean_over_the_shared_faces():
    g = graph(np.zeros((4, 2)), strength=2.0, contact=4.0)
    assert cost(g, boundary=3.0, balance=1.0) == pytest.approx(4 * (3 * 0.5) ** 2)


def test_more_balance_makes_large_merges_dearer():
    large = graph([[0, 1], [0, 0], [0, 0], [0, 0]], (4000.0, 4000.0))
    small = graph([[0, 1], [0, 0], [0, 0], [0, 0]])
    ratios = [cost(large, balance=b) / cost(small, balance=b) for b in (1.0, 1.5)]
    assert ratios == pytest.approx([500, 500**1.5])


def three_tissues():
    rng = np.random.default_rng(0)
    tissue = ndimage.zoom(rng.integers(0, 3, (5, 5, 5)), 5, order=0)
    data = np.choose(tissue, [0.3, 0.7, 1.0]) + rng.normal(0, 0.01, tissue.shape)
    return data.astype(np.float32), tissue


def test_feature_steps_between_tissues_and_not_within():
    data, tissue = three_tissues()
    head = np.ones(data.shape, bool)
    plain = MergeCriterion(intensity=1.0, low_step=0.0, high_step=0.0).feature(data, head)
    stepped = MergeCriterion(intensity=1.0, low_step=0.5, high_step=0.25).feature(data, head)
    inner = ndimage.minimum_filter(tissue, 3) == ndimage.maximum_filter(tissue, 3)
    for of, rise in enumerate([0.0, 0.5, 0.75]):
        np.testing.assert_allclose((stepped - plain)[inner & (tissue == of)], rise, atol=1e-2)


@pytest.mark.parametrize("values", [[1.0], [0.5, 1.0]])
def test_too_few_intensities_for_steps(values):
    data = np.resize(np.array(values, np.float32), (4, 4, 4))
    feature = MergeCriterion().feature(data, np.ones(data.shape, bool))
    assert np.isfinite(feature).all()
    assert feature.dtype == np.float32


@pytest.mark.parametrize("levels", [1, 2, 3, 4, 5, 7])
def test_scans_of_a_few_values_can_be_cut(levels):
    places = np.indices((24, 24, 24)) * levels // 24
    data = np.pad(1 + places.sum(0).astype(np.float32), 6)
    hierarchy = build_hierarchy(Volume(data, np.eye(4), "steps"))
    assert hierarchy.n_nodes >= 1
