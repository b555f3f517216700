import threading

import numpy as np
import pytest
from scipy import ndimage
from scipy.linalg import eigh
from scipy.sparse import csr_array, diags_array, random_array
from scipy.sparse.csgraph import laplacian as graph_laplacian

from napari_cnnvis.errors import Cancelled
from napari_cnnvis.ucm.boundary import spectral
from napari_cnnvis.ucm.boundary.half_balls import DIRECTIONS, ball_offsets, plane_sides
from napari_cnnvis.ucm.boundary.local import local_boundary
from napari_cnnvis.ucm.boundary.spectral import (
    affinities,
    eigenvectors,
    interpolation,
    oriented_slopes,
    reduced_graph,
    spectral_boundary,
)


def dense_affinities(oriented, spacing, head):
    """Two voxels at a time, as the definition says."""
    places = np.argwhere(head)
    index = {tuple(place): n for n, place in enumerate(places)}
    graph = np.eye(len(places))
    for a, here in enumerate(places):
        for b, there in enumerate(places):
            step = there - here
            if a == b or step @ step > 4:
                continue
            way = [a, b]
            if step @ step == 4:
                middle = index.get(tuple(here + step // 2))
                if middle is None:
                    continue
                way.append(middle)
            line = step * np.array(spacing) / np.linalg.norm(step * np.array(spacing))
            projected = oriented * np.abs(DIRECTIONS @ line)[:, None] / oriented.max()
            graph[a, b] = np.exp(-projected[:, way].max() / 0.1)
    return graph


def as_pairs(graph):
    first, second = np.nonzero(np.triu(graph, 1))
    return [(first, second, graph[first, second])]


@pytest.fixture
def small():
    rng = np.random.default_rng(0)
    head = rng.random((5, 4, 6)) < 0.85
    return rng.random((13, head.sum())).astype(np.float32) * 0.3, (1, 2, 1.5), head


def test_affinities_equal_those_of_every_pair(small):
    oriented, _, head = small
    graph = np.eye(head.sum())
    for first, second, affinity in affinities(*small):
        assert (graph[first, second] == 0).all()
        graph[first, second] = graph[second, first] = affinity
    np.testing.assert_allclose(graph, dense_affinities(*small), rtol=1e-5)
    assert oriented.shape[1] == len(graph)


def test_wall_weakens_only_what_crosses_it():
    head = np.ones((4, 1, 1), bool)
    oriented = np.zeros((13, 4), np.float32)
    oriented[np.argmax(DIRECTIONS[:, 0]), 2] = 7
    found = {
        (a, b): w
        for first, second, weights in affinities(oriented, (2, 2, 2), head)
        for a, b, w in zip(first.tolist(), second.tolist(), weights.tolist(), strict=True)
    }
    assert set(found) == {(0, 1), (1, 2), (2, 3), (0, 2), (1, 3)}
    assert found.pop((0, 1)) == 1
    np.testing.assert_allclose(list(found.values()), np.exp(-10), rtol=1e-4)


def test_reduced_graph_equals_the_dense_product(small):
    _, _, head = small
    graph = dense_affinities(*small)
    weights = random_array((head.sum(), 9), density=0.4, rng=0, format="csr").astype(np.float32)
    laplacian, degrees = reduced_graph(affinities(*small), csr_array(weights))
    d, interpolate = np.diag(graph.sum(1)), weights.toarray().astype(float)
    expected = interpolate.T @ (d - graph) @ interpolate
    np.testing.assert_allclose(laplacian.toarray(), expected, atol=1e-4)
    np.testing.assert_allclose(degrees.toarray(), interpolate.T @ d @ interpolate, rtol=1e-4)


def path_of_two(nodes, seed=0):
    """A connected random graph and its (sparse) degrees, which are not diagonal."""
    rng = np.random.default_rng(seed)
    graph = diags_array(rng.uniform(0.1, 1, nodes - 1), offsets=1, shape=(nodes, nodes)).tocsr()
    graph = graph + random_array((nodes, nodes), density=4 / nodes, rng=rng, format="csr")
    graph = graph + graph.T
    graph.setdiag(0)
    degrees = diags_array(np.asarray(graph.sum(0)).ravel() + 1) + 0.1 * graph
    return csr_array(graph_laplacian(graph)), csr_array(degrees)


@pytest.mark.parametrize(("nodes", "dense"), [(12, 300), (60, 300), (220, 0)])
def test_eigenpairs_equal_those_of_the_dense_problem(monkeypatch, nodes, dense):
    monkeypatch.setattr(spectral, "DENSE", dense)
    a, b = path_of_two(nodes)
    values, vectors = eigenvectors(a, b, 9)
    expected, expected_vectors = eigh(a.toarray(), b.toarray())
    np.testing.assert_allclose(values, expected[1:10], rtol=1e-5)
    assert (np.diff(values) > 0).all()
    cosines = np.abs(np.diag(expected_vectors[:, 1:10].T @ b.toarray() @ vectors))
    np.testing.assert_allclose(cosines, 1, atol=1e-4)
    residual = a @ vectors - (b @ vectors) * values
    assert np.abs(residual).max() < 1e-5


def test_values_are_sorted_with_their_vectors(monkeypatch):
    a, b = path_of_two(40)
    expected = eigenvectors(a, b, 5)
    mixed = np.random.default_rng(0).permutation(6)

    def unsorted(a, b, count):
        values, vectors = eigh(a.toarray(), b.toarray(), subset_by_index=[0, count - 1])
        return values[mixed], vectors[:, mixed]

    monkeypatch.setattr(spectral, "DENSE", 0)
    monkeypatch.setattr(spectral, "_smallest", unsorted)
    values, vectors = eigenvectors(a, b, 5)
    np.testing.assert_allclose(values, expected[0], rtol=1e-9)
    np.testing.assert_allclose(np.abs(vectors), np.abs(expected[1]), atol=1e-9)


def test_fixed_start_gives_the_same_bits(monkeypatch):
    monkeypatch.setattr(spectral, "DENSE", 0)
    a, b = path_of_two(200)
    for first, second in zip(eigenvectors(a, b, 5), eigenvectors(a, b, 5), strict=True):
        np.testing.assert_array_equal(first, second)


def test_largest_of_unconnected_parts_is_solved():
    a, b = path_of_two(10)
    lone = csr_array((3, 3))
    both = [
        csr_array(np.block([[m, np.zeros((10, 3))], [np.zeros((3, 10)), corner]]))
        for m, corner in ((a.toarray(), lone.toarray()), (b.toarray(), np.eye(3)))
    ]
    values, vectors = eigenvectors(*both, 4)
    np.testing.assert_allclose(values, eigenvectors(a, b, 4)[0], rtol=1e-6)
    assert (vectors[10:] == 0).all()
    assert values[0] > 1e-3


@pytest.mark.parametrize("nodes", [1, 2, 3])
def test_small_graphs_have_fewer_eigenvectors(nodes):
    line = np.diag(np.ones(nodes - 1), 1)
    a = csr_array(graph_laplacian(line + line.T))
    values, vectors = eigenvectors(a, csr_array(np.eye(nodes)), 17)
    assert values.shape == (nodes - 1,)
    assert vectors.shape == (nodes, nodes - 1)


def test_interpolation_weights_follow_the_distance():
    head = np.ones((6, 5, 4), bool)
    head[0, 0, 0] = False
    spacing = np.array([2.0, 1.0, 5.0])
    basins = np.zeros(head.shape, int)
    basins[head] = np.random.default_rng(0).integers(1, 13, head.sum())
    weights = interpolation(basins, spacing, head).toarray()
    np.testing.assert_allclose(weights.sum(1), 1, rtol=1e-6)
    places, own = np.argwhere(head) * spacing, basins[head] - 1
    centres = np.array([places[own == b].mean(0) for b in range(12)])
    for place, basin, row in zip(places, own, weights, strict=True):
        distances = ((place - centres) ** 2).sum(1)
        others = [b for b in np.argsort(distances) if b != basin][:4]
        expected = np.zeros(12)
        expected[[basin, *others]] = np.exp(-distances[[basin, *others]] / 36)
        np.testing.assert_allclose(row, expected / expected.sum(), atol=1e-5)


@pytest.mark.parametrize("count", [1, 2, 5, 6])
def test_interpolation_from_few_basins(count):
    head = np.ones((6, 2, 1), bool)
    basins = np.arange(12).reshape(head.shape) % count + 1
    weights = interpolation(basins, (5, 5, 5), head).toarray()
    assert weights.shape == (12, count)
    assert (weights[np.arange(12), basins.ravel() - 1] > 0).all()
    np.testing.assert_allclose(weights.sum(1), 1, rtol=1e-6)


def test_slopes_equal_the_means_of_both_halves():
    rng = np.random.default_rng(0)
    head, spacing, radius = rng.random((6, 5, 4)) < 0.85, (1, 2, 1.5), 3
    fields = rng.normal(size=(3, head.sum()))
    offsets = ball_offsets(radius, spacing)
    sides = plane_sides(offsets, spacing)
    volume = np.full((3, *head.shape), np.nan)
    volume[:, head] = fields
    expected = np.zeros((13, head.sum()))
    for voxel, place in enumerate(np.argwhere(head)):
        around = place + offsets
        inside = ((around >= 0) & (around < head.shape)).all(1)
        inside[inside] = head[tuple(around[inside].T)]
        seen = volume[:, *around[inside].T]
        for d, side in enumerate(sides[:, inside]):
            p, n = (1 + side) / 2, (1 - side) / 2
            trust = 2 * min(p.sum(), n.sum()) / len(offsets)
            if trust:
                slope = np.abs(seen @ p / p.sum() - seen @ n / n.sum()).sum()
                expected[d, voxel] = trust * slope
    found = oriented_slopes(fields, spacing, head, radius)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("number", range(13))
def test_slope_is_greatest_along_the_field(number):
    head = np.ones((11, 11, 11), bool)
    field = np.argwhere(head) @ DIRECTIONS[number]
    slopes = oriented_slopes(field[None], (2, 2, 2), head).reshape(13, 11, 11, 11)
    assert slopes[:, 5, 5, 5].argmax() == number


def two_blobs():
    """Two touching balls of one intensity, with a dark wall of two voxels between."""
    grid = np.indices((26, 14, 14)) - np.reshape([0, 6.5, 6.5], (3, 1, 1, 1))
    head = np.hypot(grid[1], grid[2]) < 6
    data = np.where((grid[0] > 11.5) & (grid[0] < 13.5), 0.2, 1.0) * head
    noise = np.random.default_rng(0).normal(0, 0.02, head.shape)
    return (data + noise * head).astype(np.float32), head


def test_first_eigenvector_parts_two_blobs():
    data, head = two_blobs()
    oriented = local_boundary(data, (2, 2, 2), head)
    cubes = sum(g // 3 * f for g, f in zip(np.indices(head.shape), (100, 10, 1), strict=True))
    basins = np.zeros(head.shape, int)
    basins[head] = np.unique(cubes[head], return_inverse=True)[1] + 1
    weights = interpolation(basins, (2, 2, 2), head)
    graph = reduced_graph(affinities(oriented, (2, 2, 2), head), weights)
    values, vectors = eigenvectors(*graph, 2)
    field = (weights @ vectors)[:, 0]
    side = np.argwhere(head)[:, 0] > 12.5
    far = np.abs(np.argwhere(head)[:, 0] - 12.5) > 2
    assert len(set(zip((field > 0)[far].tolist(), side[far].tolist(), strict=True))) == 2
    assert values[0] < 0.5 * values[1]


def test_boundary_lies_between_two_blobs():
    data, head = two_blobs()
    strength = np.zeros(head.shape)
    oriented = local_boundary(data, (2, 2, 2), head)
    strength[head] = spectral_boundary(oriented, (2, 2, 2), head).max(0)
    profile = ndimage.mean(strength, np.indices(head.shape)[0] + 1, np.arange(26) + 1)
    assert profile.argmax() in {11, 12, 13, 14}
    assert profile[12:14].min() > 2 * profile[[3, 4, 5, 20, 21, 22]].max()


def test_same_boundaries_give_the_same_bits():
    data, head = two_blobs()
    oriented = local_boundary(data, (2, 2, 2), head)
    first = spectral_boundary(oriented, (2, 2, 2), head)
    np.testing.assert_array_equal(spectral_boundary(oriented, (2, 2, 2), head), first)


@pytest.mark.parametrize("shape", [(3, 3, 3), (1, 1, 1), (2, 1, 1)])
def test_no_boundary_or_one_basin_gives_zero(shape):
    head = np.ones(shape, bool)
    none = np.zeros((13, head.size), np.float32)
    assert (spectral_boundary(none, (1, 1, 1), head) == 0).all()
    assert (spectral_boundary(none + 1, (1, 1, 1), head) == 0).all()


def test_no_head():
    head = np.zeros((3, 3, 3), bool)
    assert spectral_boundary(np.zeros((13, 0), np.float32), (1, 1, 1), head).shape == (13, 0)


def test_cancel(small):
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(Cancelled, match="was cancelled"):
        spectral_boundary(*small, cancel=cancel)
