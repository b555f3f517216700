import numpy as np
import pytest

from napari_cnnvis.ucm.boundary.gradient import between_voxels, gradient


@pytest.mark.parametrize("spacing", [(1, 1, 1), (2, 2, 2), (1, 2, 5)])
@pytest.mark.parametrize("scales", [(0,), (0, 1.5), (1, 2)])
def test_ramp_has_its_slope_per_millimetre(spacing, scales):
    slopes = (0.5, -1.2, 0.0)
    grid = np.indices((40, 30, 20), np.float32)
    ramp = sum(s * step * g for s, step, g in zip(slopes, spacing, grid, strict=True))
    inner = (np.s_[10:-10],) * 2 + (np.s_[5:-5],)
    for faces, slope in zip(gradient(ramp, spacing, scales), slopes, strict=True):
        np.testing.assert_allclose(faces[inner], abs(slope), atol=1e-4)


def test_one_face_fewer_along_its_axis():
    shapes = [faces.shape for faces in gradient(np.zeros((4, 5, 6), np.float32), (1, 1, 1))]
    assert shapes == [(3, 5, 6), (4, 4, 6), (4, 5, 5)]
    shapes = [faces.shape for faces in between_voxels(np.zeros((4, 5, 6)))]
    assert shapes == [(3, 5, 6), (4, 4, 6), (4, 5, 5)]


def test_step_is_strong_at_its_faces_only():
    data = np.zeros((6, 5, 4), np.float32)
    data[3:] = 1
    faces = gradient(data, (2, 2, 2))
    assert (faces[0][2] == 0.5).all()
    assert not np.delete(faces[0], 2, axis=0).any()
    assert not faces[1].any()
    assert not faces[2].any()


def test_between_two_voxels_is_their_mean():
    strength = np.random.default_rng(0).random((4, 3, 5))
    faces = between_voxels(strength)
    assert faces[1][2, 0, 3] == pytest.approx((strength[2, 0, 3] + strength[2, 1, 3]) / 2)
