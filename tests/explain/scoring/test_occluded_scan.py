import threading
from types import SimpleNamespace

import numpy as np
import pytest

from napari_cnnvis.errors import MethodError
from napari_cnnvis.explain.methods.box import box_sensitivity
from napari_cnnvis.explain.methods.sensitivity import sensitivity
from napari_cnnvis.explain.request import ExplainRequest
from napari_cnnvis.explain.scoring import occluded_scan as occlusion_run
from napari_cnnvis.explain.scoring.full_passes import FullPassScorer
from napari_cnnvis.explain.scoring.occluded_scan import Limits


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still unless it is set."""
    clock = SimpleNamespace(now=100.0)
    clock.monotonic = lambda: clock.now
    monkeypatch.setattr(occlusion_run, "time", clock)
    return clock


@pytest.fixture
def slow(clock, monkeypatch):
    """Full passes take a second for each batch."""
    score = FullPassScorer.score

    def slowly(self, occlusions):
        for batch in score(self, occlusions):
            clock.now += 1
            yield batch

    monkeypatch.setattr(FullPassScorer, "score", slowly)


@pytest.fixture(scope="module")
def hierarchy(brain, cubes):
    return cubes(brain, 4)


def batches(clock, n, size=3):
    for number in range(n):
        clock.now += 1
        yield np.arange(size) + size * number, np.zeros((size, 2))


@pytest.mark.parametrize(
    ("budget", "scored"), [(None, 5), (100, 5), (5, 5), (2.5, 3), (2, 2), (0.01, 1)]
)
def test_no_batch_begins_after_the_time_budget(clock, budget, scored):
    limits = Limits(time_budget=budget)
    found = list(limits.batches(batches(clock, 5), 15, "scoring", lambda: None))
    assert len(found) == scored


def test_no_batch_begins_after_cancelling(clock):
    cancel = threading.Event()
    found = []
    for batch in Limits(cancel=cancel).batches(batches(clock, 5), 15, "scoring", lambda: None):
        found.append(batch)
        if len(found) == 2:
            cancel.set()
    assert len(found) == 2


def test_progress_counts_what_was_taken_in(clock):
    steps, taken = [], []

    def so_far():
        kept = len(taken)
        return lambda: kept

    limits = Limits(steps.append)
    for batch in limits.batches(batches(clock, 3), 9, "scoring", so_far, done=1):
        taken.append(batch)
    found = [(s.done, s.total, s.what) for s in steps]
    assert found == [(done, 9, "scoring") for done in (4, 7, 10)]
    assert [s.partial for s in steps] == [1, 2, 3]


@pytest.mark.parametrize("budget", [0, -1, float("nan")])
def test_wrong_time_budgets(budget, plain):
    with pytest.raises(MethodError, match="give a number of seconds above 0") as error:
        ExplainRequest("box", 0, time_budget=budget)
    plain(error.value)


@pytest.fixture(params=["sensitivity", "box"])
def run(request, conv_model, brain, hierarchy):
    """Either kind of run, four regions or boxes at once."""
    full = {"engine": "full", "batch_size": 4}
    if request.param == "box":
        return lambda **how: box_sensitivity(conv_model, brain, 0, size=3, stride=3, **full, **how)
    return lambda **how: sensitivity(conv_model, brain, hierarchy, 0, **full, **how)


def test_time_budget_gives_a_partial_map_of_what_was_scored(run, slow):
    steps = []
    whole, part = run(), run(time_budget=2.5, progress=steps.append)
    assert (whole.partial, part.partial) == (False, True)
    scored = np.isfinite(part.regions.occluded[0, :, 0])
    assert len(steps) == 3
    assert scored.sum() == steps[-1].done < steps[-1].total
    values = part.regions.values(0)
    np.testing.assert_allclose(values[scored], whole.regions.values(0)[scored], atol=1e-6)
    np.testing.assert_array_equal(part.data, part.regions.map(0))
    assert np.abs(part.data).max() > 1e-3


def test_a_time_budget_that_suffices_gives_the_whole_map(run, slow):
    within = run(time_budget=1000)
    assert not within.partial
    np.testing.assert_array_equal(within.data, run().data)


def test_a_time_budget_that_is_over_at_once_gives_an_empty_map(run, clock):
    ticks = iter(range(100, 1000))
    clock.monotonic = lambda: next(ticks)
    part = run(time_budget=0.5)
    assert part.partial
    assert not part.data.any()


def test_maps_so_far_are_made_only_when_asked_for(run, monkeypatch):
    made, steps = [], []
    monkeypatch.setattr(
        type(run().regions), "map", lambda self, *_, **__: made.append(1) or np.zeros(1)
    )
    run(progress=steps.append)
    assert len(steps) > 3
    assert len(made) == 1
    assert steps[0].partial is steps[0].partial
    assert len(made) == 2


def test_maps_so_far_do_not_change_with_later_batches(run):
    at_once, steps = [], []

    def progress(step):
        steps.append(step)
        if len(steps) % 2:
            at_once.append(step.partial.data.copy())

    run(progress=progress)
    assert len({maps.tobytes() for maps in at_once}) == len(at_once) > 1
    for step, before in zip(steps[::2], at_once, strict=True):
        np.testing.assert_array_equal(step.partial.data, before)
    known = [np.isfinite(s.partial.regions.occluded[0, :, 0]).sum() for s in steps]
    assert known == sorted(set(known))


def test_only_the_whole_map_is_not_partial(run):
    steps = []
    whole = run(progress=steps.append)
    assert all(step.partial.partial for step in steps)
    assert not whole.partial
    np.testing.assert_array_equal(steps[-1].partial.data, whole.data)
    assert steps[-1].done == steps[-1].total


def test_cancelled_before_it_began(run):
    cancel = threading.Event()
    cancel.set()
    part = run(cancel=cancel)
    assert part.partial
    assert not part.data.any()
