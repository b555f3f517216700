import threading
from itertools import pairwise

import numpy as np
import pytest
from scipy import ndimage

from napari_cnnvis.errors import Cancelled, MethodError, VolumeError
from napari_cnnvis.sample_data import sample_path
from napari_cnnvis.scan.files import read_volume
from napari_cnnvis.scan.volume import Volume
from napari_cnnvis.ucm.build import build_hierarchy, default_counts
from napari_cnnvis.ucm.criterion import MergeCriterion
from napari_cnnvis.ucm.options import BOUNDARIES

AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])


def ellipsoid(shape, radii, offset=(0, 0, 0)):
    grid = np.indices(shape) - (np.array(shape)[:, None, None, None] - 1) / 2
    grid = (grid - np.array(offset)[:, None, None, None]) / np.array(radii)[:, None, None, None]
    return (grid**2).sum(0) < 1


def phantom(shape=(36, 42, 34), scale=1.0, seed=0):
    """A head of two tissues with a dark ventricle, and where the two are."""
    noise = np.random.default_rng(seed).normal(0, 0.05, shape)
    head = ellipsoid(shape, np.array([15, 18, 14]) * scale)
    white = ellipsoid(shape, np.array([11, 13, 10]) * scale)
    ventricle = ellipsoid(shape, np.array([4, 7, 4]) * scale)
    data = np.select([ventricle, white, head], [0.2, 1.0, 0.7], 0) + noise
    data = np.where(head, np.maximum(data, 0.01), 0).astype(np.float32)
    return Volume(data, AFFINE, "phantom"), head, ventricle


def dice(a, b):
    return 2 * (a & b).sum() / (a.sum() + b.sum())


@pytest.fixture(scope="module")
def built():
    volume, head, ventricle = phantom()
    return build_hierarchy(volume), head, ventricle


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_a_region_of_some_cut_is_the_ventricle(boundary):
    volume, _, ventricle = phantom()
    hierarchy = build_hierarchy(volume, boundary)
    best = max(
        dice(cut == label, ventricle)
        for n in (2, 5, 10, 20)
        for cut in [hierarchy.cut(n)]
        for label in np.unique(cut[ventricle])
    )
    assert best >= 0.8


@pytest.mark.parametrize("n", [1, 2, 12, 60])
def test_background_is_never_merged(built, n):
    hierarchy, head, _ = built
    cut = hierarchy.cut(n)
    np.testing.assert_array_equal(cut > 0, head)
    assert cut.max() == n


def test_one_tree_from_supervoxels_to_the_head(built):
    hierarchy, _, _ = built
    nodes = np.arange(hierarchy.n_nodes)
    assert hierarchy.n_nodes == 2 * hierarchy.n_leaves - 1
    assert (hierarchy.parents == nodes).sum() == 1
    assert (hierarchy.parents[:-1] > nodes[:-1]).all()
    assert (hierarchy.altitudes[hierarchy.parents] >= hierarchy.altitudes).all()
    assert (hierarchy.altitudes[: hierarchy.n_leaves] == 0).all()


def test_levels_have_the_default_counts(built):
    hierarchy, _, _ = built
    counts = [len(np.unique(level)) for level in hierarchy.levels]
    assert counts == default_counts(hierarchy.n_leaves)


def test_levels_that_were_asked_for():
    hierarchy = build_hierarchy(phantom()[0], counts=[40, 20, 4])
    assert [len(np.unique(level)) for level in hierarchy.levels] == [40, 20, 4]


def test_same_volume_gives_the_same_tree(built):
    hierarchy, _, _ = built
    again = build_hierarchy(phantom()[0])
    np.testing.assert_array_equal(again.leaves, hierarchy.leaves)
    np.testing.assert_array_equal(again.parents, hierarchy.parents)
    np.testing.assert_array_equal(again.altitudes, hierarchy.altitudes)


@pytest.mark.parametrize("factor", [1000.0, 1e-3])
def test_the_unit_of_intensity_does_not_matter(built, factor):
    hierarchy, _, _ = built
    volume = phantom()[0]
    scaled = build_hierarchy(Volume(volume.data * np.float32(factor), AFFINE))
    agree = scaled.cut(10) == hierarchy.cut(10)
    assert agree.mean() > 0.99


def test_regions_are_connected_at_every_cut():
    hierarchy = build_hierarchy(phantom((22, 24, 20), 0.6)[0])
    assert hierarchy.n_leaves > 10
    seen = set()  # most regions of a cut are those of the one before
    for n in range(1, hierarchy.n_leaves + 1):
        cut = hierarchy.cut(n)
        for label, box in enumerate(ndimage.find_objects(cut), start=1):
            region = cut[box] == label
            if (key := (str(box), region.tobytes())) not in seen:
                seen.add(key)
                assert ndimage.label(region)[1] == 1
    assert len(seen) == hierarchy.n_nodes


def test_more_weight_on_position_gives_rounder_regions():
    volume = phantom()[0]

    def spread(weight):
        cut = build_hierarchy(volume, criterion=MergeCriterion(position=weight)).cut(12)
        boxes = ndimage.find_objects(cut)
        return np.mean([np.prod([s.stop - s.start for s in box]) for box in boxes])

    assert spread(0.1) < spread(0)


def test_progress_names_each_step():
    steps = []
    build_hierarchy(phantom((22, 24, 20), 0.6)[0], progress=steps.append)
    assert [s.done for s in steps] == list(range(len(steps)))
    assert {s.total for s in steps} == {len(steps)}
    assert steps[0].what == "finding the head"


@pytest.mark.parametrize("at", [0, 2])
def test_cancel_stops_before_the_next_step(at):
    cancel, steps = threading.Event(), []

    def progress(step):
        steps.append(step.done)
        if step.done == at:
            cancel.set()

    with pytest.raises(Cancelled, match="cancelled"):
        build_hierarchy(phantom()[0], progress=progress, cancel=cancel)
    assert steps == list(range(at + 1))


def test_unknown_boundary_is_refused():
    with pytest.raises(MethodError, match="choose one of gradient, gpb"):
        build_hierarchy(phantom()[0], boundary="sobel")


def test_constant_volume_is_refused():
    with pytest.raises(VolumeError, match="one value everywhere"):
        build_hierarchy(Volume(np.ones((9, 9, 9))))


def two_heads():
    shape = (40, 20, 20)
    left, right = ellipsoid(shape, (7, 8, 8), (-10, 0, 0)), ellipsoid(shape, (8, 8, 8), (10, 0, 0))
    data = np.where(left | right, np.random.default_rng(0).uniform(0.5, 1, shape), 0)
    return data, right


def test_largest_of_two_heads_is_taken():
    data, right = two_heads()
    hierarchy = build_hierarchy(Volume(data))
    np.testing.assert_array_equal(hierarchy.cut(1) == 1, right)


def thin(axis):
    data = np.moveaxis(np.zeros((24, 24, 9)), 2, axis)
    noise = np.random.default_rng(0).uniform(0.5, 1, (16, 16))
    np.moveaxis(data, axis, 2)[4:20, 4:20, 4] = noise
    return data


AWKWARD = {
    "one slice": np.random.default_rng(0).random((20, 20, 1)),
    "one row": np.random.default_rng(0).random((30, 1, 1)),
    "one voxel thick along i": thin(0),
    "one voxel thick along k": thin(2),
    "all ones but one voxel": np.where(np.arange(729).reshape(9, 9, 9) == 364, 2.0, 1.0),
    "one bright voxel": (np.arange(729).reshape(9, 9, 9) == 364).astype(float),
    "flat cube": np.pad(np.ones((5, 5, 5)), 4),
    "noise": np.random.default_rng(0).random((10, 10, 10)),
    "NaN": np.where(np.arange(1000).reshape(10, 10, 10) % 7, 1.5, np.nan)
    * np.random.default_rng(0).random((10, 10, 10)),
    "negative": np.random.default_rng(0).random((10, 10, 10)) - 5,
    "five slices": np.pad(np.random.default_rng(0).random((20, 20, 5)), ((2, 2), (2, 2), (0, 0))),
    "two voxels": np.array([[[0.0, 1.0]]]),
}


@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize("name", AWKWARD)
def test_awkward_volumes_give_a_hierarchy(name, boundary):
    affine = np.diag([1.0, 1.0, 5.0, 1.0])
    hierarchy = build_hierarchy(Volume(AWKWARD[name], affine), boundary)
    assert hierarchy.leaves.shape == AWKWARD[name].shape
    assert hierarchy.n_leaves >= 1
    assert hierarchy.cut(1).max() == 1
    assert len(hierarchy.levels) >= 1


def test_template_can_be_segmented():
    volume = read_volume(sample_path("mni152_t1_2mm.nii.gz"))
    hierarchy = build_hierarchy(volume)
    cut = hierarchy.cut(75)
    assert cut.max() == 75
    sizes = np.bincount(cut[cut > 0])[1:]
    assert sizes.max() < 0.1 * sizes.sum()
    assert (hierarchy.leaves > 0).sum() * np.prod(volume.spacing) == pytest.approx(1.9e6, rel=0.2)


@pytest.mark.parametrize(
    ("n_leaves", "finest"), [(5000, 800), (5000, 400), (300, 800), (9, 800), (1, 800), (5000, 5)]
)
def test_default_counts(n_leaves, finest):
    counts = default_counts(n_leaves, finest)
    assert counts[0] == min(finest, n_leaves)
    assert counts[-1] == min(12, finest, n_leaves)
    assert all(a > b for a, b in pairwise(counts))
