import numpy as np
import pytest
import torch
from torch import nn

from napari_cnnvis.explain.region_scorer import FullPassScorer
from napari_cnnvis.models.running import OutOfMemory

SHAPE = (4, 5, 6)


class SmallMemory(nn.Module):
    """A network that runs out of memory above some batch size."""

    def __init__(self, limit):
        super().__init__()
        torch.manual_seed(0)
        self.inner = nn.Sequential(nn.Flatten(), nn.Linear(120, 3), nn.Tanh(), nn.Linear(3, 2))
        self.limit = limit
        self.batches = []

    def forward(self, x):
        if x.device.type != "meta":
            self.batches.append(len(x))
            if len(x) > self.limit:
                raise torch.OutOfMemoryError("CUDA out of memory")
        return self.inner(x)


@pytest.fixture
def inputs():
    rng = np.random.default_rng(0)
    clean, filled = (torch.from_numpy(rng.random((1, 1, *SHAPE), np.float32)) for _ in range(2))
    regions = np.array_split(rng.permutation(120), 9)
    return clean, filled, regions


def one_by_one(module, clean, filled, regions):
    rows = []
    for region in regions:
        x = clean.clone()
        x.view(-1)[region] = filled.view(-1)[region]
        with torch.no_grad():
            rows.append(module.inner(x)[0].numpy())
    return np.array(rows)


@pytest.mark.parametrize("batch_size", [1, 4, 9, 20, None])
def test_equals_occluding_one_by_one(wrap, inputs, batch_size):
    model = wrap(SmallMemory(99), SHAPE)
    clean, filled, regions = inputs
    found = list(FullPassScorer(model, clean, filled, batch_size).score(regions))
    assert max(map(len, found)) <= (batch_size or 32)
    np.testing.assert_allclose(np.concatenate(found), one_by_one(model.module, *inputs), atol=1e-6)


def test_batches_shrink_when_memory_runs_out(wrap, inputs):
    model = wrap(SmallMemory(2), SHAPE)
    clean, filled, regions = inputs
    scorer = FullPassScorer(model, clean, filled, batch_size=8)
    found = np.concatenate(list(scorer.score(regions)))
    assert model.module.batches == [8, 4, 2, 2, 2, 2, 1]
    assert scorer.batch_size == 2
    np.testing.assert_allclose(found, one_by_one(model.module, *inputs), atol=1e-6)


def test_no_memory_for_a_single_region(wrap, inputs):
    model = wrap(SmallMemory(0), SHAPE)
    clean, filled, regions = inputs
    with pytest.raises(OutOfMemory, match="Memory ran out"):
        list(FullPassScorer(model, clean, filled, batch_size=4).score(regions))
    assert model.module.batches == [4, 2, 1]


def test_inputs_stay_what_they_were(wrap, inputs):
    clean, filled, regions = inputs
    before = clean.clone(), filled.clone()
    list(FullPassScorer(wrap(SmallMemory(99), SHAPE), clean, filled, 4).score(regions))
    torch.testing.assert_close((clean, filled), before, rtol=0, atol=0)


def test_an_empty_region_changes_nothing(wrap, inputs):
    clean, filled, _ = inputs
    model = wrap(SmallMemory(99), SHAPE)
    (found,) = FullPassScorer(model, clean, filled).score([np.array([], np.int64)])
    np.testing.assert_array_equal(found, model.logits(clean).numpy())


def test_memory_of_the_network_limits_the_batch(wrap):
    wide = wrap(
        nn.Sequential(nn.Conv3d(1, 64, 1), nn.Flatten(), nn.Linear(64 * 64**3, 2)), (64,) * 3
    )
    x = torch.zeros(1, 1, 64, 64, 64)
    per_volume = 3 * (64 + 1) * 64**3 * 4
    assert FullPassScorer(wide, x, x).batch_size == 1_000_000_000 // per_volume
