import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from napari_cnnvis.explain.scoring.incremental.patches import Kept, Patch, convolve, paste, pool_all

sizes = st.tuples(*[st.integers(1, 5)] * 3)
margins = st.tuples(*[st.integers(0, 2)] * 3)
seeds = st.integers(0, 2**16)


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def padded(clean, before, after, fill):
    widths = [int(w) for axis in (2, 1, 0) for w in (before[axis], after[axis])]
    return F.pad(clean, widths, value=fill)


def cut(volume, low, size):
    return volume[(..., *(slice(a, a + s) for a, s in zip(low, size, strict=True)))]


def kept(clean, before=(0, 0, 0), after=(0, 0, 0), fill=0.0):
    return Kept(clean, np.array(before), np.array(after), fill)


@st.composite
def boxes_of_padded_volumes(draw):
    grid, before, after = np.array([draw(sizes), draw(margins), draw(margins)])
    room = grid + before + after
    size = np.array([draw(st.integers(1, n)) for n in room])
    n = draw(st.integers(1, 3))
    low = [[draw(st.integers(0, r - s)) for r, s in zip(room, size, strict=True)] for _ in range(n)]
    return grid, before, after, np.array(low) - before, size


@given(
    boxes_of_padded_volumes(),
    st.sampled_from([0.0, 2.5, -np.inf]),
    st.integers(1, 3),
    st.booleans(),
)
def test_gathered_boxes_are_slices_of_the_padded_volume(case, fill, channels, channels_last):
    grid, before, after, low, size = case
    clean = random(1, channels, *grid)
    if channels_last:
        clean = clean.contiguous(memory_format=torch.channels_last_3d)
    volume = padded(clean, before, after, fill)
    expected = torch.cat([cut(volume, row + before, size) for row in low])
    found = Kept(clean, before, after, fill).gather(low, size)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("margin", [0, 1])
def test_the_whole_grid_is_gathered_once_for_each_region(n, margin):
    clean = random(1, 2, 3, 4, 5)
    of_all = kept(clean, [margin] * 3, [margin] * 3, 9.0)
    found = of_all.gather(np.zeros((n, 3), np.int64), np.array([3, 4, 5]))
    torch.testing.assert_close(found, clean.repeat(n, 1, 1, 1, 1), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("low", "size"),
    [([[0, 0, 0]], (3, 4, 5)), ([[0, 0, 0]] * 2, (3, 4, 5)), ([[1, 0, 2]], (2, 3, 1)),
     ([[1, 0, 2], [1, 0, 2]], (2, 3, 1))],
)  # fmt: skip
def test_writing_into_what_was_gathered_leaves_the_clean_volume(low, size):
    clean = random(1, 2, 3, 4, 5)
    before = clean.clone()
    of_all = kept(clean)
    of_all.gather(np.array(low), np.array(size)).fill_(7)
    torch.testing.assert_close(of_all.volume, before, rtol=0, atol=0)
    torch.testing.assert_close(clean, before, rtol=0, atol=0)


def test_writing_into_the_clean_output_later_does_not_reach_what_is_kept():
    clean = random(1, 2, 3, 4, 5)
    before, of_all = clean.clone(), kept(clean)
    clean.zero_()
    torch.testing.assert_close(of_all.volume, before, rtol=0, atol=0)


@pytest.mark.parametrize("how", ["mean", "max"])
def test_pooling_leaves_the_margin_out(how):
    clean = random(1, 3, 2, 3, 4)
    flat = clean.flatten(2)
    expected = flat.mean(2) if how == "mean" else flat.amax(2)
    torch.testing.assert_close(kept(clean, (1, 1, 1), (2, 0, 1), 50.0).pooled(how), expected)
    torch.testing.assert_close(pool_all(clean, how), expected)


def test_bytes_count_the_margin():
    assert kept(random(1, 3, 2, 3, 4), (1, 0, 0), (1, 2, 0)).nbytes == 3 * 4 * 5 * 4 * 4


def pasted(into, values, offsets):
    """What `paste` should give, voxel by voxel."""
    found = into.clone()
    for row, offset in enumerate(offsets):
        for place in np.ndindex(*values.shape[2:]):
            target = offset + place
            if (target >= 0).all() and (target < into.shape[2:]).all():
                found[(row, slice(None), *target)] = values[(row, slice(None), *place)]
    return found


@st.composite
def pastes(draw, inside=False):
    room, n = draw(sizes), draw(st.integers(1, 3))
    size = tuple(draw(st.integers(1, r)) for r in room) if inside else draw(sizes)
    bounds = [(0, r - s) if inside else (-3, 6) for r, s in zip(room, size, strict=True)]
    offsets = [[draw(st.integers(*b)) for b in bounds] for _ in range(n)]
    if draw(st.booleans()):
        offsets = offsets[:1] * n
    layout = draw(st.sampled_from([torch.contiguous_format, torch.channels_last_3d]))
    into = random(n, 2, *room, seed=1).contiguous(memory_format=layout)
    return into, random(n, 2, *size, seed=2), np.array(offsets)


@given(pastes(inside=True))
def test_boxes_are_pasted_where_they_belong(case):
    into, values, offsets = case
    expected = pasted(into, values, offsets)
    paste(into, values, offsets)
    torch.testing.assert_close(into, expected, rtol=0, atol=0)


@given(pastes())
def test_what_hangs_over_is_left_out(case):
    into, values, offsets = case
    expected = pasted(into, values, offsets)
    paste(into, values, offsets)
    torch.testing.assert_close(into, expected, rtol=0, atol=0)


def test_pasting_into_part_of_a_tensor_leaves_the_rest():
    whole, values = random(2, 3, 6, 6, 6), random(2, 3, 2, 2, 2, seed=1)
    offsets = np.array([[0, 1, 2], [2, 0, 1]])
    part = (slice(None), slice(None), slice(1, 5), slice(2, 6), slice(1, 5))
    expected = whole.clone()
    expected[part] = pasted(whole[part], values, offsets)
    paste(whole[part], values, offsets)
    torch.testing.assert_close(whole, expected, rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize(
    ("weight", "options"),
    [
        ((4, 2, 3, 3, 3), {}),
        ((4, 2, 3, 1, 2), {"stride": [2, 1, 3], "dilation": [1, 2, 2]}),
        ((4, 1, 3, 3, 3), {"groups": 2, "padding": [1, 0, 2]}),
        ((3, 2, 1, 1, 1), {"stride": [1, 2, 1]}),
    ],
)
@pytest.mark.parametrize("n", [1, 3])
def test_convolve_is_conv3d(dtype, weight, options, n):
    x, weight, bias = (
        random(n, 2, 6, 7, 8).to(dtype),
        random(*weight).to(dtype),
        random(4).to(dtype),
    )
    bias = bias[: len(weight)]
    tolerance = 2e-2 if dtype == torch.bfloat16 else 1e-5
    for b in (bias, None):
        expected = torch.conv3d(x, weight, b, **options)
        torch.testing.assert_close(
            convolve(x, weight, b, **options), expected, rtol=tolerance, atol=tolerance
        )


def test_a_patch_knows_whether_it_covers_the_grid():
    patch = Patch(random(2, 3, 4, 5, 6), np.zeros((2, 3), int), np.ones((2, 3), int))
    np.testing.assert_array_equal(patch.size, [4, 5, 6])
    assert patch.covers(np.array([4, 5, 6]))
    assert not patch.covers(np.array([4, 5, 7]))
