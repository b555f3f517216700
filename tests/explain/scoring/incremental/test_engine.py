import numpy as np
import pytest
import torch
from torch import nn

from napari_cnnvis.explain.scoring.incremental import engine, operations, plan
from napari_cnnvis.explain.scoring.incremental.engine import IncrementalScorer, kept_bytes
from napari_cnnvis.explain.scoring.incremental.patches import Kept
from napari_cnnvis.models.execution import OutOfMemory

SHAPE = (12, 13, 14)
KINDS = ("voxel", "corner", "box", "scattered", "whole")


@pytest.fixture(scope="module")
def net(lively, gap_net):
    first, second = nn.Conv3d(1, 4, 3, padding=1), nn.Conv3d(4, 6, 3, padding=1)
    return lively(gap_net([first, nn.BatchNorm3d(4), nn.ReLU(True), nn.MaxPool3d(2), second], 6))


@pytest.fixture(scope="module")
def program(net, program_of):
    return program_of(net, SHAPE)


@pytest.fixture
def scorer(program, clean_of):
    return IncrementalScorer(program, clean_of(SHAPE))


@pytest.fixture(scope="module")
def occlusions(occlusions_in):
    return occlusions_in(SHAPE, KINDS * 4, seed=1)


@pytest.fixture(scope="module")
def expected(net, clean_of, occlusions, full_passes):
    return full_passes(net, clean_of(SHAPE), occlusions)


def test_regions_change_the_scores_by_far_more_than_the_tolerance(scorer, expected):
    change = np.abs(expected - scorer.clean_logits).max(axis=1)
    assert change.min() > 2e-4
    assert change.max() > 0.3


def test_the_largest_regions_come_first(monkeypatch, scorer, occlusions):
    monkeypatch.setattr(plan, "_STARTING", 0.0)
    work = scorer.cones(occlusions.boxes).multiply_adds()
    heaviest = [work[members].max() for members, _ in scorer.score(occlusions)]
    assert len(heaviest) > 3
    assert heaviest == sorted(heaviest, reverse=True)


def test_scores_do_not_depend_on_how_regions_are_batched(
    monkeypatch, scorer, occlusions, expected, in_order
):
    monkeypatch.setattr(plan, "_STARTING", 0.0)
    np.testing.assert_allclose(in_order(scorer, occlusions), expected, atol=1e-5)


def test_a_small_budget_scores_regions_one_by_one(
    monkeypatch, scorer, occlusions, expected, in_order
):
    monkeypatch.setattr(engine, "_CPU_BUDGET", 1.0)
    assert {len(members) for members, _ in scorer.score(occlusions)} == {1}
    np.testing.assert_allclose(in_order(scorer, occlusions), expected, atol=1e-5)


def limit_batches(monkeypatch, limit, error):
    run, tried = IncrementalScorer._run, []

    def short_of_memory(self, patch):
        tried.append(len(patch.values))
        if len(patch.values) > limit:
            raise error
        return run(self, patch)

    monkeypatch.setattr(IncrementalScorer, "_run", short_of_memory)
    return tried


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("CUDA out of memory"), MemoryError(), OutOfMemory("Memory ran out.")],
    ids=lambda error: type(error).__name__,
)
def test_batches_are_halved_when_memory_runs_out(
    monkeypatch, scorer, boxes_in, full_passes, net, clean_of, in_order, error
):
    alike = boxes_in(SHAPE, [((i, i, i), (i + 2, i + 3, i + 4)) for i in range(3, 9)])
    tried = limit_batches(monkeypatch, 2, error)
    found = in_order(scorer, alike)
    assert tried == [6, 3, 1, 2, 3, 1, 2]
    np.testing.assert_allclose(found, full_passes(net, clean_of(SHAPE), alike), atol=1e-5)


def test_no_memory_for_a_single_region(monkeypatch, scorer, occlusions):
    tried = limit_batches(monkeypatch, 0, torch.OutOfMemoryError("CUDA out of memory"))
    with pytest.raises(OutOfMemory, match="Memory ran out"):
        list(scorer.score(occlusions))
    assert tried[-1] == 1


TALL = {
    "padded": [nn.Conv3d(1, 3, 3, padding=1), nn.Conv3d(3, 2, (5, 3, 1), padding=(4, 0, 0))],
    "strided": [nn.Conv3d(1, 3, 3, stride=(2, 1, 1)), nn.Conv3d(3, 2, 2, stride=(3, 1, 2))],
    "dilated": [nn.Conv3d(1, 2, (3, 1, 1), dilation=(4, 1, 1)), nn.MaxPool3d(2, (1, 2, 2), 1)],
    "pooled": [nn.AvgPool3d((3, 2, 2), (2, 1, 1), 1), nn.Conv3d(1, 2, (2, 3, 3))],
}


@pytest.mark.parametrize("name", TALL)
def test_slabs_give_what_whole_boxes_give(
    monkeypatch, lively, gap_net, program_of, clean_of, boxes_in, full_passes, in_order, name
):
    shape = (38, 7, 8)
    net, clean = lively(gap_net(TALL[name], 2)), clean_of(shape)
    ends = [((1, 1, 1), (30, 4, 5)), ((6, 2, 0), (38, 7, 3)), ((0, 3, 3), (33, 5, 8))]
    tall = boxes_in(shape, [*ends, ((9, 2, 2), (12, 4, 4))])
    expected = full_passes(net, clean, tall)
    scorer = IncrementalScorer(program_of(net, shape), clean)
    gathered, gather = [], Kept.gather

    def noting(self, low, size):
        gathered.append(size)
        return gather(self, low, size)

    monkeypatch.setattr(Kept, "gather", noting)
    np.testing.assert_allclose(in_order(scorer, tall), expected, atol=1e-5)
    at_once = len(gathered)
    monkeypatch.setattr(operations, "_SLAB", 1.0)
    monkeypatch.setattr(operations, "_THINNEST", 1)
    np.testing.assert_allclose(in_order(scorer, tall), expected, atol=1e-5)
    assert len(gathered) - at_once > 2 * at_once


def test_scoring_leaves_the_clean_volume_and_what_is_kept(program, clean_of, occlusions):
    clean = clean_of(SHAPE)
    scorer = IncrementalScorer(program, clean)
    volumes = [kept.volume for kept in scorer.kept.values()]
    before = [volume.clone() for volume in (clean, *volumes)]
    first = [scores for _, scores in scorer.score(occlusions)]
    torch.testing.assert_close([clean, *volumes], before, rtol=0, atol=0)
    for again, scores in zip(scorer.score(occlusions), first, strict=True):
        np.testing.assert_array_equal(again[1], scores)


def test_a_volume_changed_meanwhile_does_not_change_the_scores(
    program, clean_of, occlusions, expected, in_order
):
    clean = clean_of(SHAPE)
    scorer = IncrementalScorer(program, clean)
    clean.zero_()
    np.testing.assert_allclose(in_order(scorer, occlusions), expected, atol=1e-5)


@pytest.mark.parametrize("layout", ["fortran", "channels last", "slice"])
def test_any_memory_layout_of_the_volume(program, clean_of, occlusions, expected, in_order, layout):
    clean = clean_of(SHAPE)
    if layout == "fortran":
        clean = clean.permute(0, 1, 4, 3, 2).contiguous().permute(0, 1, 4, 3, 2)
    elif layout == "channels last":
        clean = clean.contiguous(memory_format=torch.channels_last_3d)
    else:
        clean = torch.nn.functional.pad(clean, (1, 2, 0, 3))[..., :-3, 1:-2]
    scorer = IncrementalScorer(program, clean)
    np.testing.assert_allclose(in_order(scorer, occlusions), expected, atol=1e-5)


def test_voxels_that_stay_what_they_are_change_nothing(scorer, masks, clean_of):
    clean = clean_of(SHAPE).numpy()[0, 0]
    bright = clean > 0.9
    ((_, scores),) = scorer.score(masks([bright], [clean[bright]]))
    np.testing.assert_allclose(scores[0], scorer.clean_logits, atol=1e-6)


def test_clean_outputs_with_margins_take_the_memory_foretold(program, clean_of):
    for dtype in (torch.float32, torch.bfloat16):
        clean = clean_of(SHAPE, dtype=dtype)
        assert IncrementalScorer(program, clean).kept_bytes == kept_bytes(program, clean)
    half = np.floor_divide(SHAPE, 2)
    numbers = np.prod(np.add(SHAPE, 2)) + 4 * np.prod(np.add(SHAPE, 1))
    numbers += 4 * np.prod(half + 2) + 6 * np.prod(half)
    assert kept_bytes(program, clean) == 2 * numbers


def test_half_precision_is_near_and_not_the_same(program, clean_of, occlusions, expected, in_order):
    scorer = IncrementalScorer(program, clean_of(SHAPE, dtype=torch.bfloat16))
    found = in_order(scorer, occlusions)
    assert found.dtype == np.float32
    assert not np.allclose(found, expected, rtol=0, atol=1e-5)
    np.testing.assert_allclose(found, expected, rtol=0, atol=0.03 * np.abs(expected).max())


def test_half_precision_of_a_network_that_asks_for_single(
    calls, lively, program_of, clean_of, occlusions, in_order
):
    net = lively(calls(lambda x, c: c(x.float()).mean((2, 3, 4)), nn.Conv3d(1, 4, 3)))
    program = program_of(net, SHAPE)
    single = IncrementalScorer(program, clean_of(SHAPE))
    half = IncrementalScorer(program, clean_of(SHAPE, dtype=torch.bfloat16))
    expected = in_order(single, occlusions)
    np.testing.assert_allclose(in_order(half, occlusions), expected, atol=0.03)
