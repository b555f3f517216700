import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_cnnvis.ucm.boundary.gradient import gradient
from napari_cnnvis.ucm.region_graph import RegionGraph


def random_graph(seed, shape=(5, 4, 6), n=9):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, n + 1, shape).astype(np.int32)
    labels.ravel()[:n] = np.arange(1, n + 1)
    data = rng.random(shape).astype(np.float32)
    position = np.indices(shape, sparse=True)[1]
    faces = gradient(data, (1, 2, 3))
    return labels, data, faces, RegionGraph.of_labels(labels, [data, position], faces, 6.0)


@given(st.integers(0, 999))
def test_graph_equals_looking_at_every_voxel(seed):
    labels, data, faces, graph = random_graph(seed)
    contact, strength = {}, {}
    for axis in range(3):
        for place in np.ndindex(faces[axis].shape):
            beside = list(place)
            beside[axis] += 1
            a, b = sorted((labels[place], labels[tuple(beside)]))
            if 0 < a < b:
                pair = (a - 1, b - 1)
                contact[pair] = contact.get(pair, 0) + 1
                strength[pair] = strength.get(pair, 0) + faces[axis][place]
    pairs = [tuple(pair) for pair in graph.pairs.T.tolist()]
    assert sorted(contact) == sorted(pairs)
    assert len(set(pairs)) == len(pairs)
    np.testing.assert_array_equal(graph.contact, [contact[p] for p in pairs])
    np.testing.assert_allclose(graph.strength, [strength[p] for p in pairs], rtol=1e-5)
    for region in range(graph.n_regions):
        inside = labels == region + 1
        assert graph.sizes[region] == 6.0 * inside.sum()
        assert graph.means[0, region] == pytest.approx(data[inside].mean(), rel=1e-5)
        assert graph.means[1, region] == pytest.approx(np.argwhere(inside)[:, 1].mean())


@given(st.integers(0, 999))
def test_joining_is_the_same_as_joining_the_labels(seed):
    labels, data, faces, graph = random_graph(seed)
    rng = np.random.default_rng(seed)
    region = rng.permutation(np.concatenate([np.arange(4), rng.integers(0, 4, 5)]))
    joined = graph.joined(region, 4)
    position = np.indices(labels.shape, sparse=True)[1]
    relabelled = np.concatenate([[0], region + 1]).astype(np.int32)[labels]
    expected = RegionGraph.of_labels(relabelled, [data, position], faces, 6.0)
    for name in ("sizes", "sums", "pairs", "contact", "strength"):
        np.testing.assert_allclose(getattr(joined, name), getattr(expected, name), rtol=1e-9)
