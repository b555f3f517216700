import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from napari_cnnvis.explain.scoring.incremental.geometry import Window, common

triples = st.tuples(*[st.integers(1, 4)] * 3)
paddings = st.tuples(*[st.integers(0, 3)] * 3)


def window(kernel=1, stride=1, dilation=1, before=0, after=0, inputs=8):
    options = [np.broadcast_to(v, 3).astype(np.int64) for v in (kernel, stride, dilation)]
    before, after, inputs = (
        np.broadcast_to(v, 3).astype(np.int64) for v in (before, after, inputs)
    )
    reach = options[2] * (options[0] - 1) + 1
    outputs = (inputs + before + after - reach) // options[1] + 1
    return Window(*options, before, after, 0.0, inputs, outputs)


@st.composite
def windows(draw):
    grid = draw(st.tuples(*[st.integers(1, 11)] * 3))
    found = window(*(draw(s) for s in (triples, triples, triples, paddings, paddings)), grid)
    assume((found.inputs + found.before + found.after >= found.reach).all())
    return found


@st.composite
def windows_and_boxes(draw):
    found = draw(windows())
    ends = [draw(st.integers(1, 3)) for _ in range(3)]
    low = [[draw(st.integers(0, n - 1)) for n in found.inputs] for _ in range(3)]
    low = np.array(low, np.int64)
    return found, low, np.minimum(low + ends, found.inputs)


def covered(of, axis, output):
    """Input positions that one output position sees."""
    first = output * of.stride[axis] - of.before[axis]
    return first + of.dilation[axis] * np.arange(of.kernel[axis])


def seeing(of, axis, low, high):
    """Output positions that see a marked input position."""
    marked = np.zeros(of.inputs[axis], bool)
    marked[low:high] = True
    sees = []
    for output in range(of.outputs[axis]):
        inside = [p for p in covered(of, axis, output) if 0 <= p < of.inputs[axis]]
        if marked[inside].any():
            sees.append(output)
    return sees


def each_axis(case):
    found, low, high = case
    first, end = found.touched(low, high)
    for row in range(len(low)):
        for axis in range(3):
            yield axis, low[row, axis], high[row, axis], first[row, axis], end[row, axis]


@given(windows_and_boxes())
def test_all_outputs_that_see_a_box_are_touched(case):
    for axis, low, high, first, end in each_axis(case):
        assert 0 <= first <= end <= case[0].outputs[axis]
        assert set(seeing(case[0], axis, low, high)) <= set(range(first, end))


@given(windows_and_boxes())
def test_touched_is_exact_for_windows_without_gaps(case):
    found = case[0]
    for axis, low, high, first, end in each_axis(case):
        if found.dilation[axis] == 1 and found.kernel[axis] >= found.stride[axis]:
            assert list(range(first, end)) == seeing(found, axis, low, high)


@given(windows_and_boxes())
def test_touched_holds_nothing_that_lies_clear_of_the_box(case):
    found = case[0]
    for axis, low, high, first, end in each_axis(case):
        for output in range(first, end):
            start = output * found.stride[axis] - found.before[axis]
            assert start < high
            assert start + max(found.reach[axis], found.stride[axis]) > low


@given(windows_and_boxes())
def test_what_is_needed_holds_the_box_and_all_windows_and_stays_in_the_margin(case):
    found, low, high = case
    first, end = found.touched(low, high)
    out, size = common(first, end, found.outputs)
    start, length = found.needed(out, size)
    touching = (end > first).all(axis=1)
    assert (start[touching] <= low[touching]).all()
    assert (start[touching] + length >= high[touching]).all()
    for axis in range(3):
        for row in range(len(low)):
            seen = covered(found, axis, out[row, axis] + np.arange(size[axis])[:, None])
            assert start[row, axis] <= seen.min()
            assert seen.max() < start[row, axis] + length[axis]
    before, after = found.margin
    assert (start >= -before).all()
    assert (start + length <= found.inputs + after).all()


@given(windows_and_boxes())
def test_what_is_needed_leads_to_exactly_as_many_outputs(case):
    found, low, high = case
    _, size = common(*found.touched(low, high), found.outputs)
    _, length = found.needed(low, size)
    np.testing.assert_array_equal((length - found.reach) // found.stride + 1, size)


def test_windows_that_skip_a_box_still_begin_before_it():
    found = window(kernel=1, stride=3, inputs=9)
    first, end = found.touched(np.array([[1, 4, 8]]), np.array([[3, 5, 9]]))
    np.testing.assert_array_equal(first, [[0, 1, 2]])
    np.testing.assert_array_equal(end, [[1, 2, 3]])


def test_a_box_behind_the_last_window_touches_nothing():
    found = window(kernel=2, stride=2, inputs=5)
    first, end = found.touched(np.array([[4, 4, 4]]), np.array([[5, 5, 5]]))
    np.testing.assert_array_equal(end - first, [[0, 0, 0]])


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, True),
        ({"dilation": 3}, True),
        ({"kernel": (1, 1, 2)}, False),
        ({"stride": (2, 1, 1)}, False),
        ({"before": 1}, False),
        ({"after": (0, 0, 1)}, False),
    ],
)
def test_windows_of_one_voxel(options, expected):
    assert window(**options).one_voxel is expected


@st.composite
def boxes_on_a_grid(draw):
    grid = np.array(draw(st.tuples(*[st.integers(1, 9)] * 3)))
    ends = [
        [sorted(draw(st.tuples(st.integers(0, n), st.integers(0, n)))) for n in grid]
        for _ in range(draw(st.integers(1, 4)))
    ]
    boxes = np.array(ends)
    return boxes[..., 0], boxes[..., 1], grid


@given(boxes_on_a_grid())
def test_common_boxes_hold_those_given_and_stay_on_the_grid(case):
    low, high, grid = case
    start, size = common(low, high, grid)
    assert (start >= 0).all()
    assert (start + size <= grid).all()
    assert (start <= low).all()
    assert (start + size >= high).all()


@given(boxes_on_a_grid())
def test_common_boxes_are_as_large_as_the_largest_and_never_empty(case):
    low, high, grid = case
    np.testing.assert_array_equal(common(low, high, grid)[1], np.maximum((high - low).max(0), 1))


def test_common_moves_a_box_only_where_it_would_reach_over():
    low, high = np.array([[0, 2, 6], [3, 5, 1]]), np.array([[4, 3, 7], [4, 6, 4]])
    start, size = common(low, high, np.array([7, 7, 7]))
    np.testing.assert_array_equal(size, [4, 1, 3])
    np.testing.assert_array_equal(start, [[0, 2, 4], [3, 5, 1]])
