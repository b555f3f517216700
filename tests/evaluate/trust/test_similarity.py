import numpy as np
import pytest
from scipy.stats import spearmanr
from skimage.metrics import structural_similarity

from napari_cnnvis.errors import MethodError
from napari_cnnvis.evaluate.trust.similarity import compare_maps

SHAPE = (14, 12, 13)


@pytest.fixture
def maps():
    rng = np.random.default_rng(0)
    a = rng.normal(size=SHAPE)
    return a, a + rng.normal(size=SHAPE)


def test_spearman_is_scipys(maps):
    a, b = maps
    inside = np.random.default_rng(1).random(SHAPE) < 0.5
    alike = compare_maps(a, b, inside)
    assert alike.spearman == pytest.approx(spearmanr(a[inside], b[inside])[0])
    absolute = spearmanr(np.abs(a[inside]), np.abs(b[inside]))[0]
    assert alike.spearman_absolute == pytest.approx(absolute)


def test_spearman_with_ties_is_scipys(maps):
    a, b = (np.maximum(m, 0) for m in maps)
    assert compare_maps(a, b).spearman == pytest.approx(spearmanr(a, b, axis=None)[0])


def test_ssim_is_scikit_images(maps):
    a, b = (m / np.abs(m).max() for m in maps)
    expected = structural_similarity(a, b, win_size=7, data_range=2.0, full=True)[1].mean()
    assert compare_maps(*maps).ssim == pytest.approx(expected)
    a, b = np.abs(a), np.abs(b)
    expected = structural_similarity(a, b, win_size=7, data_range=1.0, full=True)[1].mean()
    assert compare_maps(*maps).ssim_absolute == pytest.approx(expected)


def test_scale_does_not_count(maps):
    a, b = maps
    one, other = compare_maps(a, b), compare_maps(1e-6 * a, 50 * b)
    assert one.spearman == other.spearman
    assert one.ssim == pytest.approx(other.ssim)


def test_a_map_and_its_negative(maps):
    alike = compare_maps(maps[0], -maps[0])
    assert alike.spearman == pytest.approx(-1)
    assert alike.spearman_absolute == alike.ssim_absolute == pytest.approx(1)
    assert alike.strongest == alike.spearman_absolute


def test_what_is_outside_does_not_count(maps):
    a, b = maps
    inside = np.zeros(SHAPE, bool)
    inside[3:12, 2:11, 2:11] = True
    changed = np.where(inside, b, 99)
    assert compare_maps(a, b, inside) == compare_maps(a, changed, inside)


def test_a_constant_map_is_like_nothing(maps):
    alike = compare_maps(maps[0], np.zeros(SHAPE))
    assert set(alike.to_dict().values()) == {None}
    assert alike.strongest is None


def test_a_volume_too_thin_for_a_window_has_no_ssim(maps):
    alike = compare_maps(maps[0][:2], maps[1][:2])
    assert alike.ssim is None
    assert alike.spearman is not None


def test_other_grids_and_empty_masks_are_refused(maps, plain):
    for a, b, inside in (
        (maps[0], maps[1][1:], None),
        (*maps, np.zeros(SHAPE, bool)),
    ):
        with pytest.raises(MethodError) as error:
            compare_maps(a, b, inside)
        plain(error.value)
