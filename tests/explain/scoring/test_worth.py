"""Whether the engine is tried and used: by work, reach, the time of a pass and of what was tried."""

import numpy as np
import pytest
import torch
from torch import nn

from napari_cnnvis.explain.scoring import scorer_choice, worth
from napari_cnnvis.explain.scoring.baselines import make_baseline
from napari_cnnvis.explain.scoring.occlusions import RegionOcclusions
from napari_cnnvis.explain.scoring.scorer_choice import choose_scorer
from napari_cnnvis.explain.scoring.worth import PassTimes
from napari_cnnvis.models.model import Model
from napari_cnnvis.scan.conform import InputSpec

MAY_PAY, PAYS = PassTimes.may_pay, PassTimes.pays
SIZE = 32


def deep(n_layers=4, width=4):
    layers = []
    for n in range(n_layers):
        layers += [nn.Conv3d(width if n else 1, width, 3, padding=1), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(width, 2))


class WithStatistics(nn.Module):
    """A norm over the whole map comes first."""

    def __init__(self):
        super().__init__()
        self.norm, self.net = nn.InstanceNorm3d(1), deep()

    def forward(self, x):
        return self.net(self.norm(x))


def model_of(net):
    torch.manual_seed(0)
    return Model(net, input_spec=InputSpec((SIZE,) * 3, intensity="none"), device="cpu")


def regions(cells=4):
    """A grid of boxes as occlusions, and the input."""
    data = np.random.default_rng(0).random((SIZE,) * 3).astype(np.float32)
    labels = np.ravel_multi_index(np.indices(data.shape) * cells // SIZE, (cells,) * 3)
    order = np.argsort(labels, axis=None, kind="stable")
    counts = np.bincount(labels.ravel())
    last = np.cumsum(counts)
    baseline = make_baseline(data, 0, (1, 1, 1))
    return data, RegionOcclusions(order, last - counts, last, [baseline], data.shape)


def times_of(net, pass_seconds, tracing=0.015, cells=4):
    model = model_of(net)
    data, occlusions = regions(cells)
    model.pass_seconds = lambda x, in_batches=False: pass_seconds
    times = PassTimes(model, model.tensor(data), occlusions.boxes)
    times.tracing = tracing
    return times


def test_full_passes_take_one_for_each_region():
    assert times_of(deep(), 0.5).full == pytest.approx(32.0)


@pytest.mark.parametrize(("pass_seconds", "pays"), [(1e-4, False), (0.01, True), (10.0, True)])
def test_tracing_is_not_worth_it_for_quick_passes(pass_seconds, pays):
    assert MAY_PAY(times_of(deep(), pass_seconds)) == pays


@pytest.mark.parametrize(("cells", "pays"), [(1, False), (2, False), (4, True), (8, True)])
def test_few_large_regions_are_not_worth_it(cells, pays):
    assert MAY_PAY(times_of(deep(), 1.0, cells=cells)) == pays


def test_a_network_that_gathers_the_whole_map_first_is_not_worth_it():
    assert not MAY_PAY(times_of(WithStatistics(), 10.0))


def test_slow_tracing_is_not_worth_it():
    assert not MAY_PAY(times_of(deep(), 0.01, tracing=1.0))


def test_the_share_of_work_is_that_of_cells_that_see_the_box():
    net = deep(n_layers=3)
    layers = model_of(net).layers((SIZE,) * 3)
    sizes = np.array([[4, 6, 8], [32, 32, 32]])
    kinds = [2 * n + 1 for n in (1, 2, 3)]  # what a cell of each convolution sees
    weights = np.array([27 * 4, 27 * 16, 27 * 16])
    shares = [np.minimum(1, (sizes + reach) / SIZE).prod(1).mean() for reach in kinds]
    expected = (weights * shares).sum() * SIZE**3 / layers.multiply_adds
    assert layers.share_of(sizes) == pytest.approx(expected, rel=1e-3)


def test_the_share_is_never_below_what_the_engine_computes():
    for make in (deep, lambda: nn.Sequential(nn.MaxPool3d(2), *deep())):
        model = model_of(make())
        data, occlusions = regions()
        x = model.tensor(data)
        _, report = choose_scorer(model, x, occlusions, engine="incremental")
        share = model.layers((SIZE,) * 3).share_of(np.ptp(occlusions.boxes, axis=2))
        assert report.multiply_adds / report.full_multiply_adds <= share * 1.05


def test_probes_are_few_where_regions_are_few():
    counts = {cells: times_of(deep(), 1.0, cells=cells).probes for cells in (2, 4, 8)}
    assert counts == {2: 2, 4: 2, 8: 4}


def test_what_was_tried_decides():
    times = times_of(deep(), 1.0)
    work = np.full(times.regions, 10.0)
    probes = np.array([3, 5])
    assert PAYS(times, 1.0, work, probes)  # 0.5 s each, 64 regions, against 64 s
    assert not PAYS(times, 2.0, work, probes)


def test_tracing_is_learnt_from_what_it_took(monkeypatch):
    monkeypatch.setattr(PassTimes, "tracing", 0.015)
    times = times_of(deep(), 1.0)
    del times.tracing
    layers = sum(not list(m.children()) for m in deep().modules())
    times.traced(0.045 * layers)
    assert PassTimes.tracing == pytest.approx(0.03)


@pytest.mark.parametrize(
    ("tried", "used", "said"),
    [
        (False, True, "working out what each region changes would take longer than it saves"),
        (True, False, "computing only what changes took longer where it was tried"),
    ],
)
def test_the_choice_says_why_full_passes_are_taken(monkeypatch, tried, used, said):
    monkeypatch.setattr(PassTimes, "may_pay", lambda self: tried)
    monkeypatch.setattr(PassTimes, "pays", lambda self, *measured: used)
    model = model_of(deep())
    data, occlusions = regions()
    _, report = choose_scorer(model, model.tensor(data), occlusions)
    assert report.engine == "full passes"
    assert said in report.text
    _, report = choose_scorer(model, model.tensor(data), occlusions, engine="incremental")
    assert report.engine == "incremental"


def test_nothing_is_traced_where_it_cannot_pay(monkeypatch):
    monkeypatch.setattr(PassTimes, "may_pay", lambda self: False)
    monkeypatch.setattr(scorer_choice, "trace", lambda *_: pytest.fail("it was traced"))
    model = model_of(deep())
    data, occlusions = regions()
    choose_scorer(model, model.tensor(data), occlusions)


def test_the_time_of_a_pass_is_measured_once_and_is_that_of_one():
    model = model_of(deep(n_layers=6, width=8))
    x = model.tensor(regions()[0])
    passes, plain = [], model.logits
    model.logits = lambda given: passes.append(len(given)) or plain(given)
    first = model.pass_seconds(x)
    assert model.pass_seconds(x.clone()) == first > 0
    assert passes == [1]
    assert model.pass_seconds(x, in_batches=True) <= first
    assert passes == [1, 2]
    assert model.takes_batches(x)
    assert model.pass_seconds(x) <= first
    assert worth.PassTimes(model, x, regions()[1].boxes).full <= 64 * first
