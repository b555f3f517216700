"""Intensity rules, and chains of them in the order given, against numpy and MONAI."""

import numpy as np
import pytest

from napari_cnnvis.errors import VolumeError
from napari_cnnvis.scan.conform import InputSpec, conform
from napari_cnnvis.scan.intensity import scaled
from napari_cnnvis.scan.volume import Volume

X = np.random.default_rng(0).gamma(2, 3, (8, 9, 10)).astype(np.float32)
X[:4] = 0
ORACLES = {
    "mean": lambda x: x / x.mean(),
    "mean-nonzero": lambda x: x / x[x != 0].mean(),
    "clip 0 8": lambda x: np.clip(x, 0, 8),
    "window 1 5": lambda x: np.clip((x - 1) / 4, 0, 1),
    "z-score-nonzero": lambda x: np.where(x != 0, (x - x[x != 0].mean()) / x[x != 0].std(), 0),
}


@pytest.mark.parametrize("first", ORACLES)
@pytest.mark.parametrize("second", ORACLES)
def test_chains_are_applied_in_order(first, second):
    start = X + 0.1 * (X > 0)
    expected = ORACLES[second](ORACLES[first](start.astype(float)))
    if abs(ORACLES[first](start).mean()) < 1e-3 and second.startswith("mean"):
        pytest.skip("divides by a mean of 0")
    assert np.allclose(scaled(start, f"{first}, {second}"), expected, atol=1e-4)


def test_rules_equal_monais():
    transforms = pytest.importorskip("monai.transforms")
    for rule, transform in {
        "z-score-nonzero": transforms.NormalizeIntensity(nonzero=True),
        "window 1 5": transforms.ScaleIntensityRange(1, 5, 0, 1, clip=True),
    }.items():
        assert np.allclose(scaled(X, rule), transform(X[None])[0], atol=1e-5)


def test_conform_applies_a_chain():
    volume = Volume(X, np.eye(4), "scan")
    data = conform(volume, InputSpec(intensity="mean, clip 0 8")).data
    assert np.allclose(data, np.clip(X / X.mean(), 0, 8), atol=1e-5)


@pytest.mark.parametrize("rules", ["", "mena", "mean,", "clip 8 0", "clip 0", "clip 0 nan", 3])
def test_what_is_no_rule_is_refused(rules):
    with pytest.raises(VolumeError, match="not an intensity rule"):
        InputSpec(intensity=rules)
