"""Spectral boundary strength: boundaries of the eigenvectors of reduced normalised cuts."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from scipy import ndimage
from scipy.linalg import eigh
from scipy.sparse import csr_array, diags_array, eye_array
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh, splu
from scipy.spatial import cKDTree
from skimage.segmentation import watershed

from napari_cnnvis.progress import stop_if_cancelled
from napari_cnnvis.ucm.boundary.half_balls import DIRECTIONS, HalfBalls

__all__ = [
    "affinities",
    "eigenvectors",
    "interpolation",
    "oriented_slopes",
    "reduced_graph",
    "spectral_boundary",
]

#: eigenvectors whose boundaries are added up
COUNT = 17
#: boundary, as a part of the strongest, at which the affinity has fallen to 1/e
FALL = 0.1
#: square millimetres in the interpolation's exp(-d**2 / WIDTH): 9 square voxels of 2 mm
WIDTH = 36.0
#: basins that a voxel is interpolated from, besides its own
NEAREST = 4
#: radius of the half-balls that differentiate eigenvectors, in millimetres: 4 voxels of 2 mm
RADIUS = 8.0
#: eigenvalues below count as this one
SMALLEST = 1e-9
#: graphs of no more nodes are solved as dense matrices
DENSE = 300


def spectral_boundary(
    oriented: np.ndarray,
    spacing: Sequence[float],
    head: np.ndarray,
    count: int = COUNT,
    *,
    device: str | torch.device = "cpu",
    cancel: threading.Event | None = None,
) -> np.ndarray:
    """Boundaries between the parts that normalised cuts would take the head apart into.

    The graph of voxels, in which a boundary between two weakens their affinity, is
    reduced to the watershed basins of the boundary strength. The strength is the sum
    over the eigenvectors, brought back to voxels, of their slope between opposite
    half-balls divided by the root of their eigenvalue.

    Parameters
    ----------
    oriented : array, float32, shape (13, n)
        Local strength at the n voxels of the head for each of `DIRECTIONS`.
    spacing : (float, float, float)
        Millimetres between voxels.
    head : array of bool, shape (i, j, k)
    count : int
        Eigenvectors, the constant one not counted. Fewer are used where there are
        few basins; with one basin the strength is zero.
    device : str or torch.device
        Where the slopes are computed; eigenvectors are computed on the CPU.
    cancel : threading.Event, optional
        When set, stops between steps.

    Returns
    -------
    array, float32, shape (13, n)

    Raises
    ------
    Cancelled
        If cancelled.

    References
    ----------
    Arbelaez, Maire, Fowlkes and Malik, PAMI 33(5), 2011, section 3.2; Taylor, CVPR
    2013; Yang, Sethi, Rangarajan and Ranka, ACCV 2016.
    """
    if oriented.max(initial=0) <= 0:
        return np.zeros_like(oriented)

    def pairs() -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        for pair in affinities(oriented, spacing, head):
            stop_if_cancelled(cancel, "Building the supervoxels")
            yield pair

    weights = interpolation(_basins(oriented.max(0), head), spacing, head)
    laplacian, degrees = reduced_graph(pairs(), weights)
    stop_if_cancelled(cancel, "Building the supervoxels")
    values, vectors = eigenvectors(laplacian, degrees, count)
    scaled = vectors / np.sqrt(np.maximum(values, SMALLEST))
    fields = (weights @ scaled.astype(np.float32)).T
    return oriented_slopes(fields, spacing, head, device=device, cancel=cancel)


def _basins(strength: np.ndarray, head: np.ndarray) -> np.ndarray:
    volume = np.full(head.shape, np.inf, np.float32)
    volume[head] = strength
    lowest = (ndimage.minimum_filter(volume, size=3) == volume) & head
    markers, _ = ndimage.label(lowest, structure=np.ones((3, 3, 3)))
    volume[~head] = 0
    _, number = np.unique(watershed(volume, markers, mask=head)[head], return_inverse=True)
    basins = np.zeros(head.shape, np.int32)
    basins[head] = number + 1
    return basins


def affinities(
    oriented: np.ndarray, spacing: Sequence[float], head: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Affinity of each two voxels of the head that lie within two voxels of each other.

    ``exp(-g / 0.1)``, with g the largest boundary on the way, as a part of the
    strongest boundary anywhere. The boundary that counts between two voxels is the
    greatest of the 13 strengths, each projected on the line between the voxels.

    Parameters
    ----------
    oriented : array, float32, shape (13, n)
        Boundary strength at the n voxels of the head for each of `DIRECTIONS`.
    spacing : (float, float, float)
        Millimetres between voxels.
    head : array of bool, shape (i, j, k)

    Yields
    ------
    first, second : arrays of int, shape (m,)
        Numbers of voxels in the order of ``head``'s.
    affinity : array, float32, shape (m,)
        0 to 1.
    """
    number = np.pad(np.where(head, np.cumsum(head).reshape(head.shape), 0), 2) - 1
    places = np.nonzero(number >= 0)
    scale = 1 / max(float(oriented.max(initial=0)), 1e-12)
    for offset in itertools.product((-2, -1, 0, 1, 2), repeat=3):
        if offset <= (0, 0, 0) or np.dot(offset, offset) > 4:
            continue
        beside = number[tuple(p + o for p, o in zip(places, offset, strict=True))]
        ways = [np.arange(len(beside)), beside]
        if np.dot(offset, offset) == 4:
            ways.append(number[tuple(p + o // 2 for p, o in zip(places, offset, strict=True))])
        both = np.all([way >= 0 for way in ways], axis=0)
        line = np.array(offset) * spacing
        along = np.abs(DIRECTIONS @ line) / np.linalg.norm(line) * scale
        boundary = np.zeros(oriented.shape[1], np.float32)
        for strength, part in zip(oriented, along.astype(np.float32), strict=True):
            np.maximum(boundary, strength * part, out=boundary)
        ways = [way[both] for way in ways]
        yield ways[0], ways[1], np.exp(-np.max([boundary[way] for way in ways], axis=0) / FALL)


def interpolation(basins: np.ndarray, spacing: Sequence[float], head: np.ndarray) -> csr_array:
    """Weights that bring values of basins to voxels.

    A voxel takes its own basin's value and those of the four others whose centres
    are nearest, weighted by ``exp(-d**2 / 36)`` of the distance to the centre in
    millimetres; the weights of a voxel sum to 1.

    Parameters
    ----------
    basins : array of int, shape (i, j, k)
        1 .. m within the head.
    spacing : (float, float, float)
        Millimetres between voxels.
    head : array of bool, shape (i, j, k)

    Returns
    -------
    csr_array, float32, shape (n, m)
        For the n voxels of ``basins[head]``.
    """
    own = basins[head] - 1
    places = (np.stack(np.nonzero(head), 1) * spacing).astype(np.float32)
    sizes = np.bincount(own)
    centres = np.stack([np.bincount(own, place) / sizes for place in places.T], 1)
    _, near = cKDTree(centres).query(places, k=range(1, min(NEAREST + 1, len(centres)) + 1))
    twice = near == own[:, None]
    near[:, -1] = np.where(twice.any(1), near[:, -1], own)
    squares = sum(
        (place[:, None] - centre[near]) ** 2
        for place, centre in zip(places.T, centres.astype(np.float32).T, strict=True)
    )
    weights = np.exp((squares.min(1, keepdims=True) - squares) / WIDTH)
    weights /= weights.sum(1, keepdims=True)
    starts = np.arange(len(own) + 1) * near.shape[1]
    matrix = (weights.astype(np.float32).ravel(), near.astype(np.int32).ravel(), starts)
    return csr_array(matrix, shape=(len(own), len(centres)))


def reduced_graph(
    pairs: Iterable[tuple[np.ndarray, np.ndarray, np.ndarray]], weights: csr_array
) -> tuple[csr_array, csr_array]:
    """The two matrices L'(D - W)L and L'DL of reduced normalised cuts.

    Parameters
    ----------
    pairs : iterable of (first, second, affinity)
        The voxel graph W, each pair once; every voxel has an affinity of 1 with itself.
    weights : csr_array, shape (n, m)
        The interpolation L.

    Returns
    -------
    laplacian, degrees : csr_array, float64, shape (m, m)

    References
    ----------
    Taylor, Towards fast and accurate segmentation, CVPR 2013.
    """
    n, m = weights.shape
    degree = np.ones(n)
    between = csr_array((m, m))
    for first, second, affinity in pairs:
        degree += np.bincount(first, affinity, n) + np.bincount(second, affinity, n)
        between += weights[first].T @ (diags_array(affinity) @ weights[second])
    degrees = (weights.T @ (diags_array(degree) @ weights)).tocsr()
    within = weights.T @ weights
    return (degrees - between - between.T - within).tocsr(), degrees


def eigenvectors(
    laplacian: csr_array, degrees: csr_array, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Smallest solutions of ``laplacian x = lambda degrees x`` but for the constant vector.

    Where the graph falls into unconnected parts, the one of most nodes is solved and
    the vectors are zero on the others.

    Parameters
    ----------
    laplacian, degrees : csr_array, shape (m, m)
        Symmetric; ``laplacian`` times ones is zero, ``degrees`` is positive definite.
    count : int
        How many; fewer come back where the graph is small.

    Returns
    -------
    values : array, float64, shape (c,)
        Ascending.
    vectors : array, float64, shape (m, c)
        Column c belongs to value c; x' degrees x = 1. The sign is arbitrary.
    """
    m = laplacian.shape[0]
    _, part = connected_components(laplacian, directed=False)
    nodes = np.flatnonzero(part == np.bincount(part, minlength=1).argmax())
    count = min(count, len(nodes) - 1)
    vectors = np.zeros((m, max(count, 0)))
    if count < 1:
        return np.zeros(0), vectors
    a = laplacian[nodes][:, nodes].astype(np.float64)
    b = degrees[nodes][:, nodes].astype(np.float64)
    b += eye_array(len(nodes)) * (1e-9 * b.diagonal().mean())
    if len(nodes) <= max(DENSE, 2 * count + 2):
        values, found = eigh(a.toarray(), b.toarray(), subset_by_index=[0, count])
    else:
        values, found = _smallest(a, b, count + 1)
    order = np.argsort(values, kind="stable")[1:]
    vectors = vectors[:, : len(order)]
    vectors[nodes] = found[:, order]
    return values[order], vectors


def _smallest(a: csr_array, b: csr_array, count: int) -> tuple[np.ndarray, np.ndarray]:
    """By Lanczos iteration about a point just below zero, from a fixed start."""
    shift = -1e-4
    factors = splu((a - shift * b).tocsc(), "MMD_AT_PLUS_A", 0.0, options={"SymmetricMode": True})
    inverse = LinearOperator(a.shape, factors.solve, dtype=np.float64)
    start = np.random.default_rng(0).standard_normal(len(b.diagonal()))
    try:
        return eigsh(a, count, b, sigma=shift, OPinv=inverse, v0=start, tol=1e-6)
    except ArpackNoConvergence as some:
        return some.eigenvalues, some.eigenvectors


def oriented_slopes(
    fields: np.ndarray,
    spacing: Sequence[float],
    head: np.ndarray,
    radius: float = RADIUS,
    *,
    device: str | torch.device = "cpu",
    cancel: threading.Event | None = None,
) -> np.ndarray:
    """Sum of how much fields differ between opposite half-balls, in 13 directions.

    The difference is that of the halves' means over the head. As in
    `local_boundary`, it counts in proportion to the smaller half where the head's
    edge cuts the ball.

    Parameters
    ----------
    fields : array, shape (c, n)
        Values at the n voxels of the head.
    spacing : (float, float, float)
        Millimetres between voxels.
    head : array of bool, shape (i, j, k)
    radius : float
        Millimetres.
    device : str or torch.device
    cancel : threading.Event, optional
        When set, stops before the next direction.

    Returns
    -------
    array, float32, shape (13, n)

    Raises
    ------
    Cancelled
        If cancelled.
    """
    if len(fields) == 0 or not head.any():
        return np.zeros((len(DIRECTIONS), int(head.sum())), np.float32)
    with HalfBalls(head, spacing, radius, device=device, cancel=cancel) as balls:
        return _slopes(fields, balls, radius).cpu().numpy()


def _slopes(fields: np.ndarray, balls: HalfBalls, radius: float) -> torch.Tensor:
    rows = np.concatenate([np.ones((1, balls.n), np.float32), fields], dtype=np.float32)
    spectra = balls.spectra(torch.from_numpy(rows).to(balls.device))
    count, *total = balls.sums(spectra, radius)
    strength = torch.zeros((len(DIRECTIONS), balls.n), device=balls.device)

    def add_up(direction: int) -> None:
        differences = balls.differences(spectra, radius, direction)
        ahead, behind, trust = balls.halves(count, next(differences), radius)
        for sum_, difference in zip(total, differences, strict=True):
            slope = (sum_ + difference).div_(ahead) - sum_.sub(difference).div_(behind)
            strength[direction] += slope.abs_().mul_(trust)

    balls.each_direction(add_up)
    return strength
