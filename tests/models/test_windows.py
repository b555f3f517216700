"""Sliding windows: where they lie, and the mean over them."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from napari_cnnvis.models.model import Model
from napari_cnnvis.models.scores import Part, Reading
from napari_cnnvis.models.windows import SlidingWindows, importance, window_slices
from napari_cnnvis.scan.conform import InputSpec
from napari_cnnvis.scan.volume import Volume

READING = Reading(Part("", (1, 2)))  # two classes

windows = st.tuples(*[st.integers(1, 6)] * 3)
margins = st.tuples(*[st.integers(0, 9)] * 3)
overlaps = st.sampled_from([0, 0.25, 0.5, 0.75, 0.9])


@given(windows, margins, overlaps)
def test_windows_cover_the_scan_and_nothing_else(window, margin, overlap):
    shape = tuple(np.add(window, margin))
    covered = np.zeros(shape, int)
    for place in window_slices(shape, window, overlap):
        assert covered[place].shape == window
        covered[place] += 1
    assert covered.min() >= 1
    if margin == (0, 0, 0):
        assert covered.max() == 1


@given(windows, margins, overlaps)
def test_no_window_is_given_twice_and_steps_are_no_longer_than_asked_for(window, margin, overlap):
    shape = tuple(np.add(window, margin))
    starts = [tuple(s.start for s in place) for place in window_slices(shape, window, overlap)]
    assert len(set(starts)) == len(starts)
    for axis in range(3):
        along = np.unique([start[axis] for start in starts])
        assert along[0] == 0
        assert along[-1] == margin[axis]
        assert (np.diff(along) <= max(1, int(window[axis] * (1 - overlap)))).all()


@given(windows, margins, overlaps)
def test_windows_are_monai_s(window, margin, overlap):
    utils = pytest.importorskip("monai.data.utils")
    shape = tuple(int(n) for n in np.add(window, margin))
    step = tuple(max(1, int(w * (1 - overlap))) for w in window)
    theirs = {
        tuple(s.start for s in place) for place in utils.dense_patch_slices(shape, window, step)
    }
    ours = window_slices(shape, window, overlap)
    assert {tuple(s.start for s in place) for place in ours} == theirs


def net():
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv3d(1, 3, 3), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(3, 2))
    )


def test_the_mean_is_that_of_the_net_on_each_window():
    x = torch.rand(2, 1, 9, 10, 11, generator=torch.Generator().manual_seed(0))
    module = net()
    starts = [(0, 2, 4, 5), (0, 2, 4, 6), (0, 2, 4, 6, 7)]
    with torch.no_grad():
        pieces = [
            module(x[..., i : i + 4, j : j + 4, k : k + 4])
            for i, j, k in itertools.product(*starts)
        ]
        found = SlidingWindows(module, (4, 4, 4), 0.5, READING)(x)
    torch.testing.assert_close(found, torch.stack(pieces).mean(0))


def test_one_window_is_the_net_itself():
    x = torch.rand(1, 1, 5, 6, 7)
    module = net()
    torch.testing.assert_close(SlidingWindows(module, (5, 6, 7), 0.5, READING)(x), module(x))


def test_a_net_that_gives_a_tuple_is_averaged_as_well():
    class Pair(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net()

        def forward(self, x):
            return self.net(x), x

    x = torch.rand(1, 1, 6, 6, 6)
    pair = Pair()
    torch.testing.assert_close(
        SlidingWindows(pair, (4, 4, 4), 0, Reading(Part("0", (1, 2))))(x),
        SlidingWindows(pair.net, (4, 4, 4), 0, READING)(x),
    )


def test_a_model_with_a_window_predicts_the_mean_over_a_padded_scan():
    model = Model(net(), input_spec=InputSpec(window=(6, 6, 6), intensity="none"), device="cpu")
    data = np.random.default_rng(0).random((6, 9, 4)).astype(np.float32)
    padded = np.pad(data, [(0, 0), (0, 0), (1, 1)])
    with torch.no_grad():
        x = torch.from_numpy(padded)[None, None]
        scores = [model.module(x[:, :, :, a : a + 6]) for a in (0, 3)]
        wanted = torch.stack(scores).mean(0).softmax(1)[0]
    np.testing.assert_allclose(model.predict(Volume(data)), wanted, rtol=1e-5)


@pytest.mark.parametrize("window", [(8, 8, 8), (4, 7, 10)])
def test_importance_is_monai_s_gaussian(window):
    utils = pytest.importorskip("monai.data.utils")
    theirs = utils.compute_importance_map(window, mode="gaussian", sigma_scale=0.125).numpy()
    ours = importance(window)
    np.testing.assert_allclose(ours / ours.max(), theirs / theirs.max(), atol=2e-3)
