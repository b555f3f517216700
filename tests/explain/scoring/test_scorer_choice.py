import json

import numpy as np
import pytest
import torch
from torch import nn

from napari_cnnvis.errors import ComputeError, MethodError
from napari_cnnvis.explain.scoring import scorer_choice
from napari_cnnvis.explain.scoring.baselines import make_baseline
from napari_cnnvis.explain.scoring.full_passes import FullPassScorer
from napari_cnnvis.explain.scoring.incremental.engine import IncrementalScorer
from napari_cnnvis.explain.scoring.occlusions import RegionOcclusions, Subset
from napari_cnnvis.explain.scoring.scorer_choice import choose_scorer
from napari_cnnvis.models.execution import OutOfMemory


@pytest.fixture(scope="module")
def occlusions(brain, cubes):
    voxels, first, last = cubes(brain, 4).voxels()
    blur = make_baseline(brain.data, "blur", brain.spacing)
    return RegionOcclusions(voxels, first, last, [blur], brain.shape)


@pytest.fixture
def choose(brain, occlusions):
    """A model, options -> the scorer for the brain's cubes and the report."""
    return lambda model, **how: choose_scorer(model, model.tensor(brain.data), occlusions, **how)


def logits_of(scorer, occlusions):
    rows = np.full((len(occlusions.boxes), len(scorer.clean_logits)), np.nan, np.float32)
    for members, logits in scorer.score(occlusions):
        rows[members] = logits
    return rows


class Forward(nn.Module):
    """A network around a small convolutional one."""

    def __init__(self, forward):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv3d(1, 3, 3)
        self.linear = nn.Linear(3, 2)
        self.function = forward

    def forward(self, x):
        return self.function(self, x)

    def head(self, y):
        return self.linear(y.mean((2, 3, 4)))


def signed(net, x):
    negative = x.device.type != "meta" and x.sum() < 0
    return net.head(-net.conv(x) if negative else net.conv(x))


def one_by_one(net, x):
    return torch.cat([net.head(net.conv(item[None])) for item in x])


def normalised(net, x):
    return net.head(net.conv(x / x.std((1, 2, 3, 4), keepdim=True)))


def test_a_convolutional_network_is_scored_incrementally(conv_model, brain, occlusions, choose):
    scorer, report = choose(conv_model)
    assert isinstance(scorer, IncrementalScorer)
    assert report.engine == "incremental"
    full = FullPassScorer(conv_model, conv_model.tensor(brain.data))
    found, expected = logits_of(scorer, occlusions), logits_of(full, occlusions)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert np.ptp(expected, axis=0).min() > 0.2


def test_report_of_incremental_scoring(conv_model, choose):
    _, report = choose(conv_model)
    assert 0 < report.largest_difference < 1e-4
    assert 0 < report.multiply_adds < 0.5 * report.full_multiply_adds
    assert report.kept_bytes > 0
    times = report.full_multiply_adds / report.multiply_adds
    assert times > 10
    assert f"computed: {times:.0f} times fewer multiply-adds" in report.text
    assert f"differ by {report.largest_difference:.1e} at most" in report.text
    assert json.loads(json.dumps(report.to_dict()))["text"] == report.text


def test_multiply_adds_are_counted(wrap, gap_net):
    model = wrap(gap_net([nn.Conv3d(1, 5, 3)], 5))
    data = np.ones((9, 8, 7), np.float32)
    voxels = np.ravel_multi_index([[4, 0], [3, 0], [3, 0]], data.shape)  # the middle, a corner
    zero = make_baseline(data, 0, (1, 1, 1))
    each = np.arange(3)
    occlusions = RegionOcclusions(voxels, each[:-1], each[1:], [zero], data.shape)
    _, report = choose_scorer(model, model.tensor(data), occlusions)
    of_position, of_linear = 27 * 5, 5 * 2
    assert report.full_multiply_adds == 2 * (7 * 6 * 5 * of_position + of_linear)
    assert report.multiply_adds == (27 + 1) * of_position + 2 * of_linear


def test_a_small_factor_is_told_with_a_decimal(wrap, gap_net, choose):
    _, report = choose(wrap(gap_net([nn.Conv3d(1, 4, 3), nn.Conv3d(4, 6, 5)], 6)))
    times = report.full_multiply_adds / report.multiply_adds
    assert 1 < times < 10
    assert f"computed: {times:.1f} times fewer multiply-adds" in report.text


def test_some_regions_are_computed_both_ways(conv_model, choose, monkeypatch):
    members = []
    score = FullPassScorer.score
    monkeypatch.setattr(
        FullPassScorer,
        "score",
        lambda self, some: members.append(len(some.boxes)) or score(self, some),
    )
    choose(conv_model)
    assert members == [2]


@pytest.mark.parametrize(
    ("forward", "reason"),
    [
        (signed, "its code cannot be traced"),
        (one_by_one, ""),
        (normalised, "would not be cheaper, because std mixes all positions"),
    ],
)
@pytest.mark.parametrize("engine", ["auto", "full"])
def test_other_networks_are_scored_by_full_passes(
    wrap, brain, occlusions, choose, forward, reason, engine
):
    model = wrap(Forward(forward))
    scorer, report = choose(model, engine=engine)
    assert isinstance(scorer, FullPassScorer)
    assert report.engine == "full passes"
    assert report.text.startswith("Full passes for each region: ")
    assert (reason if engine == "auto" else "as asked for") in report.text
    assert (report.multiply_adds, report.largest_difference) == (None, None)
    first = torch.from_numpy(brain.data.copy())
    first.view(-1)[occlusions.voxels(0)] = torch.from_numpy(occlusions.values(0))
    expected = model.logits(first[None, None])[0]
    np.testing.assert_allclose(logits_of(scorer, occlusions)[0], expected, atol=1e-5)


def test_group_norm_right_at_the_start_mixes_all_positions(wrap, gap_net, choose):
    layers = [nn.GroupNorm(1, 1), nn.Conv3d(1, 4, 3), nn.ReLU()]
    scorer, report = choose(wrap(gap_net(layers, 4)))
    assert isinstance(scorer, FullPassScorer)
    assert "group_norm in '0' mixes all positions" in report.text


def test_what_is_computed_in_full_is_stated(wrap, gap_net, choose):
    layers = [nn.Conv3d(1, 16, 3), nn.GroupNorm(4, 16), nn.ReLU(), nn.Conv3d(16, 2, 1)]
    scorer, report = choose(wrap(gap_net(layers, 2)))
    assert isinstance(scorer, IncrementalScorer)
    assert "in full, because group_norm in '1' mixes all positions" in report.text


def test_incremental_also_where_it_is_not_cheaper_if_asked_for(
    wrap, brain, gap_net, choose, occlusions
):
    model = wrap(gap_net([nn.GroupNorm(1, 1), nn.Conv3d(1, 4, 3), nn.ReLU()], 4))
    scorer, report = choose(model, engine="incremental")
    assert report.engine == "incremental"
    full = FullPassScorer(model, model.tensor(brain.data))
    np.testing.assert_allclose(
        logits_of(scorer, occlusions), logits_of(full, occlusions), atol=1e-5
    )


def test_little_memory(conv_model, choose, monkeypatch):
    monkeypatch.setattr(scorer_choice, "_free_memory", lambda device: 1000.0)
    scorer, report = choose(conv_model)
    assert isinstance(scorer, FullPassScorer)
    assert "0.0 GB are free" in report.text


@pytest.mark.parametrize(
    ("error", "reason"),
    [(OutOfMemory("none left"), "not enough memory"), (ComputeError("broken"), "one by one")],
)
def test_errors_of_the_clean_run(conv_model, choose, monkeypatch, error, reason):
    def fails(*_):
        raise error

    monkeypatch.setattr(scorer_choice, "IncrementalScorer", fails)
    scorer, report = choose(conv_model)
    assert isinstance(scorer, FullPassScorer)
    assert reason in report.text


def test_memory_that_runs_out_for_a_probe(conv_model, choose, monkeypatch):
    def fails(*_):
        raise OutOfMemory("none left")

    monkeypatch.setattr(IncrementalScorer, "score", fails)
    scorer, report = choose(conv_model)
    assert isinstance(scorer, FullPassScorer)
    assert "not enough memory" in report.text


def test_full_passes_are_never_in_half_precision(conv_model, choose):
    report = choose(conv_model, engine="full", precision="half")[1]
    assert report.text.endswith("They are in single precision.")
    assert "precision" not in choose(conv_model, engine="full")[1].text


@pytest.mark.parametrize("wrong", [0.01, np.nan])
def test_other_results_are_not_believed(conv_model, choose, monkeypatch, wrong):
    score = IncrementalScorer.score
    monkeypatch.setattr(
        IncrementalScorer,
        "score",
        lambda self, some: ((members, logits + wrong) for members, logits in score(self, some)),
    )
    scorer, report = choose(conv_model)
    assert isinstance(scorer, FullPassScorer)
    assert "gave other results" in report.text


@pytest.mark.parametrize("engine", ["auto", "incremental"])
def test_nothing_to_occlude(conv_model, brain, occlusions, engine):
    clean = conv_model.tensor(brain.data)
    scorer, report = choose_scorer(
        conv_model, clean, Subset(occlusions, np.empty(0, np.int64)), engine
    )
    assert "nothing to occlude" in report.text
    np.testing.assert_allclose(scorer.clean_logits, conv_model.logits(clean)[0], atol=1e-6)


def test_half_precision(conv_model, choose, occlusions):
    single, _ = choose(conv_model)
    half, report = choose(conv_model, precision="half")
    assert half.dtype == torch.bfloat16
    assert "Computed in bfloat16." in report.text
    apart = np.abs(logits_of(half, occlusions) - logits_of(single, occlusions)).max()
    assert 1e-3 < apart < 0.3
    assert 1e-3 < report.largest_difference < 0.3


def test_batch_size_of_full_passes(conv_model, choose):
    scorer, _ = choose(conv_model, engine="full", batch_size=3)
    assert scorer.batch_size == 3


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"engine": "fast"}, "auto, incremental, full"),
        ({"precision": "double"}, "single, half"),
    ],
)
def test_wrong_options(conv_model, choose, wrong, text, plain):
    with pytest.raises(MethodError, match=text) as error:
        choose(conv_model, **wrong)
    plain(error.value)


def test_a_network_that_cannot_run_is_an_error(wrap, brain, occlusions):
    model = wrap(Forward(normalised))
    model.module.linear = nn.Linear(4, 2)
    with pytest.raises(ComputeError, match=r"cannot take an input|The network failed"):
        choose_scorer(model, model.tensor(brain.data), occlusions)
