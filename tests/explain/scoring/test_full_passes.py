import numpy as np
import pytest
import torch
from torch import nn

from napari_cnnvis.errors import ComputeError
from napari_cnnvis.explain.scoring.full_passes import FullPassScorer
from napari_cnnvis.models.execution import OutOfMemory

SHAPE = (4, 5, 6)


class SmallMemory(nn.Module):
    """A network that runs out of memory above some batch size."""

    def __init__(self, limit):
        super().__init__()
        torch.manual_seed(0)
        self.inner = nn.Sequential(nn.Flatten(), nn.Linear(120, 3), nn.Tanh(), nn.Linear(3, 2))
        self.limit, self.one_by_one = limit, False
        self.batches = []

    def forward(self, x):
        if x.device.type != "meta":
            self.batches.append(len(x))
            if len(x) > self.limit:
                raise torch.OutOfMemoryError("CUDA out of memory")
            if self.one_by_one and len(x) > 1:
                raise RuntimeError("Expected size 1")
        return self.inner(x)


class Listed:
    """Regions given as voxels, each replaced by those of a filled volume."""

    def __init__(self, regions, filled):
        self.regions, self.filled = regions, filled.view(-1).numpy()
        self.boxes = np.zeros((len(regions), 3, 2), np.int64)

    def voxels(self, index):
        return self.regions[index]

    def values(self, index):
        return self.filled[self.regions[index]]


@pytest.fixture
def inputs():
    rng = np.random.default_rng(0)
    clean, filled = (torch.from_numpy(rng.random((1, 1, *SHAPE), np.float32)) for _ in range(2))
    return clean, Listed(np.array_split(rng.permutation(120), 9), filled)


def one_by_one(module, clean, occlusions):
    rows = []
    for region in occlusions.regions:
        x = clean.clone()
        x.view(-1)[region] = torch.from_numpy(occlusions.filled[region])
        with torch.no_grad():
            rows.append(module.inner(x)[0].numpy())
    return np.array(rows)


def in_order(scorer, occlusions):
    """Logits of all regions, which came in the given order."""
    members, logits = zip(*scorer.score(occlusions), strict=True)
    np.testing.assert_array_equal(np.concatenate(members), np.arange(len(occlusions.boxes)))
    assert list(map(len, members)) == list(map(len, logits))
    return np.concatenate(logits)


@pytest.mark.parametrize("batch_size", [1, 4, 9, 20, None])
def test_equals_occluding_one_by_one(wrap, inputs, batch_size):
    model = wrap(SmallMemory(99), SHAPE)
    clean, occlusions = inputs
    scorer = FullPassScorer(model, clean, batch_size)
    found = in_order(scorer, occlusions)
    assert max(model.module.batches) <= (batch_size or 32)
    np.testing.assert_allclose(found, one_by_one(model.module, *inputs), atol=1e-6)


def test_clean_logits_are_the_networks(wrap, inputs):
    model = wrap(SmallMemory(99), SHAPE)
    scorer = FullPassScorer(model, inputs[0])
    np.testing.assert_array_equal(scorer.clean_logits, model.logits(inputs[0])[0].numpy())


def test_batches_shrink_when_memory_runs_out(wrap, inputs):
    model = wrap(SmallMemory(2), SHAPE)
    clean, occlusions = inputs
    scorer = FullPassScorer(model, clean, batch_size=8)
    found = in_order(scorer, occlusions)
    assert model.module.batches == [8, 4, 2, 2, 2, 2, 1]
    assert scorer.batch_size == 2
    np.testing.assert_allclose(found, one_by_one(model.module, *inputs), atol=1e-6)


def test_no_memory_for_a_single_region(wrap, inputs):
    model = wrap(SmallMemory(99), SHAPE)
    clean, occlusions = inputs
    scorer = FullPassScorer(model, clean, batch_size=4)
    model.module.limit = 0
    with pytest.raises(OutOfMemory, match="Memory ran out"):
        list(scorer.score(occlusions))
    assert model.module.batches == [4, 2, 1]


def test_networks_of_one_scan_at_a_time_are_run_so(wrap, inputs):
    model = wrap(SmallMemory(99), SHAPE)
    model.module.one_by_one = True
    clean, occlusions = inputs
    scorer = FullPassScorer(model, clean, batch_size=4)
    found = in_order(scorer, occlusions)
    assert model.module.batches == [4] + [1] * 9
    np.testing.assert_allclose(found, one_by_one(model.module, *inputs), atol=1e-6)


def test_a_network_that_fails_is_an_error(wrap, inputs):
    model = wrap(SmallMemory(99), SHAPE)
    clean, occlusions = inputs
    scorer = FullPassScorer(model, clean, batch_size=4)
    model.module.inner = nn.Linear(7, 2)
    with pytest.raises(ComputeError, match="The network failed"):
        list(scorer.score(occlusions))
    assert model.module.batches == [4, 1]


def test_inputs_stay_what_they_were(wrap, inputs):
    clean, occlusions = inputs
    before = clean.clone(), occlusions.filled.copy()
    list(FullPassScorer(wrap(SmallMemory(99), SHAPE), clean, 4).score(occlusions))
    torch.testing.assert_close(clean, before[0], rtol=0, atol=0)
    np.testing.assert_array_equal(occlusions.filled, before[1])


def test_an_empty_region_changes_nothing(wrap, inputs):
    clean, occlusions = inputs
    occlusions.regions[0] = np.array([], np.int64)
    scorer = FullPassScorer(wrap(SmallMemory(99), SHAPE), clean, 1)
    _, found = next(scorer.score(occlusions))
    np.testing.assert_array_equal(found[0], scorer.clean_logits)


def test_memory_of_the_network_limits_the_batch(wrap):
    wide = wrap(
        nn.Sequential(nn.Conv3d(1, 64, 1), nn.Flatten(), nn.Linear(64 * 64**3, 2)), (64,) * 3
    )
    per_volume = 3 * (64 + 1) * 64**3 * 4
    scorer = FullPassScorer(wide, torch.zeros(1, 1, 64, 64, 64))
    assert scorer.batch_size == 1_000_000_000 // per_volume
