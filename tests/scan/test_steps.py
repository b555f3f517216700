"""Preparation steps: equal to MONAI's own pipelines on random chains, and exact on the way back."""

import json

import nibabel as nib
import numpy as np
import pytest

from napari_cnnvis.errors import VolumeError
from napari_cnnvis.scan.conform import InputSpec, conform
from napari_cnnvis.scan.files import read_volume
from napari_cnnvis.scan.steps.text import INPUT_STEPS, as_line, fixed_shape, read_steps
from napari_cnnvis.scan.volume import Volume

from .monai_chains import STEPS, by_monai, oblique_affine, random_chain, random_scan, written

pytest.importorskip("monai.transforms")


def assert_as_monai(chain, path, volumes, atol=1e-5):
    """Refusals are allowed only where MONAI has nothing left of the scan."""
    spec = InputSpec(steps=written(chain), channels=len(volumes))
    try:
        ours = conform(volumes, spec)
    except VolumeError as refused:
        assert "crops to the voxels above" in str(refused) or "is left" in str(refused)
        return None
    theirs, affine = by_monai(chain, path)
    assert ours.channels.shape == theirs.shape, written(chain)
    np.testing.assert_allclose(ours.channels, theirs, atol=atol, rtol=1e-5, err_msg=written(chain))
    np.testing.assert_allclose(ours.affine, affine, atol=1e-6, err_msg=written(chain))
    return ours


def test_every_step_is_in_the_random_chains():
    assert set(STEPS) == set(INPUT_STEPS)


@pytest.mark.parametrize("seeds", [range(0, 60), range(60, 120)], ids=str)
def test_random_chains_are_what_monai_makes(tmp_path, seeds):
    made = []
    for seed in seeds:
        rng = np.random.default_rng(seed)
        path = random_scan(rng, tmp_path / "s.nii.gz")
        made.append(assert_as_monai(random_chain(rng), path, [read_volume(path)]))
    assert sum(one is not None for one in made) > 50


@pytest.mark.parametrize("name", STEPS)
def test_each_step_alone_is_what_monai_makes_of_raw_intensities(tmp_path, name):
    for seed in range(6):
        rng = np.random.default_rng(seed)
        path = random_scan(rng, tmp_path / "s.nii.gz")
        assert_as_monai([(name, STEPS[name](rng))], path, [read_volume(path)], 1e-4)


def test_several_channels_are_what_monai_makes(tmp_path):
    for seed in range(25):
        rng = np.random.default_rng(seed)
        paths = [random_scan(np.random.default_rng(seed), tmp_path / "t1.nii.gz")]
        volume = read_volume(paths[0])
        second = volume.data**0.5 * 3 + rng.random(volume.shape).astype(np.float32)
        nib.Nifti1Image(second, volume.affine).to_filename(tmp_path / "t2.nii.gz")
        paths.append(tmp_path / "t2.nii.gz")
        chain = [
            (name, {k: v * 2 if isinstance(v, list) else v for k, v in given.items()})
            for name, given in random_chain(rng)
        ]
        assert_as_monai(chain, paths, [read_volume(path) for path in paths])


def test_sheared_scans_and_sizes_of_one_are_what_monai_makes(tmp_path):
    for seed in range(20):
        rng = np.random.default_rng(seed)
        shape = rng.choice([1, 2, 7, 12], 3)
        shape[rng.integers(3)] = 9
        affine = oblique_affine(rng)
        affine[:3, :3] @= np.eye(3) + np.triu(rng.uniform(-0.4, 0.4, (3, 3)), 1)
        path = tmp_path / "s.nii"
        nib.Nifti1Image(rng.random(shape).astype(np.float32), affine).to_filename(path)
        if min(shape) == 1:  # MONAI and this package leave such axes out of files, each in its way
            continue
        for name in ("Spacing", "Resize", "Orientation"):
            assert_as_monai([(name, STEPS[name](rng))], path, [read_volume(path)])


def test_percentiles_of_large_scans_are_monais(tmp_path):
    data = np.random.default_rng(0).gamma(2, 3, (104, 101, 97)).astype(np.float32)
    nib.Nifti1Image(data, np.eye(4)).to_filename(tmp_path / "s.nii")
    given = {"lower": 0.5, "upper": 99.5, "b_min": 0, "b_max": 1}
    chain = [("ScaleIntensityRangePercentiles", given)]
    assert_as_monai(chain, tmp_path / "s.nii", [read_volume(tmp_path / "s.nii")])


def in_mm(affine, shape):
    indices = np.moveaxis(np.indices(shape), 0, -1)
    return indices @ affine[:3, :3].T + affine[:3, 3]


GRID_STEPS = [
    "Orientation('SAR'), Spacing((1.3, 2.1, 1.7))",
    "Spacing((2.2, 1.4, 1.9), align_corners=True, padding_mode='zeros'), Orientation('LPS')",
    "Resize((30, 25, 41), mode='trilinear'), CenterSpatialCrop((21, 22, 23))",
    "CenterSpatialCrop((19, 20, 21)), Resize((15, 33, 24), mode='trilinear', align_corners=True)",
    "SpatialPad((40, 44, 37)), Spacing((1.1, 1.1, 1.1)), ResizeWithPadOrCrop((41, 32, 55))",
    "BorderPad((0, 3, 2, 1, 4, 4), mode='edge'), DivisiblePad((8, 8, 8)), Orientation('PIR')",
]


@pytest.mark.parametrize("steps", GRID_STEPS)
def test_places_in_mm_are_kept_there_and_back(steps):
    affine = oblique_affine(np.random.default_rng(3))
    shape = (27, 31, 25)
    places = in_mm(affine, shape)
    made = [conform(Volume(places[..., axis], affine), InputSpec(steps=steps)) for axis in range(3)]
    where = in_mm(made[0].affine, made[0].data.shape)
    inside = made[0].mask(np.pad(np.ones(np.subtract(shape, 6)), 3))
    assert inside.sum() > 500
    for axis, one in enumerate(made):
        np.testing.assert_allclose(one.data[inside], where[..., axis][inside], atol=2e-3)
        back = one.back(where[..., axis])
        seen = one.back(one.mask(np.ones(shape)).astype(np.float32), order=0) > 0.5
        margin = np.zeros(shape, bool)
        margin[6:-6, 6:-6, 6:-6] = True
        assert (seen & margin).sum() > 300
        found, expected = back[seen & margin], places[..., axis][seen & margin]
        # the edges of what is seen are averaged with nothing, so a few voxels are off
        assert np.quantile(np.abs(found - expected), 0.7) < 5e-3


@pytest.mark.parametrize("steps", GRID_STEPS)
def test_labels_follow_the_scan(steps):
    affine = oblique_affine(np.random.default_rng(3))
    labels = np.zeros((27, 31, 25), np.int32)
    labels[9:18, 10:20, 8:17] = 7
    conformed = conform(Volume(labels, affine), InputSpec(steps=steps))
    there = conformed.labels(labels)
    assert set(np.unique(there)) == {0, 7}
    assert ((conformed.data > 3.5) == (there == 7)).mean() > 0.99
    back = conformed.back(there, order=0)
    assert ((back == 7) == (labels == 7)).mean() > 0.99


def test_what_a_crop_leaves_out_is_no_part_of_the_map():
    volume = Volume(np.ones((12, 12, 12)))
    spec = InputSpec(steps="CenterSpatialCrop((6, 6, 6)), SpatialPad((12, 12, 12))")
    conformed = conform(volume, spec)
    expected = np.pad(np.ones((6, 6, 6)), 3)
    np.testing.assert_array_equal(conformed.back(np.ones((12, 12, 12))), expected)
    np.testing.assert_array_equal(conformed.labels(np.ones((12, 12, 12), np.uint8)), expected)


def test_steps_read_as_they_are_written_and_through_json():
    for seed in range(50):
        chain = random_chain(np.random.default_rng(seed))
        steps = read_steps(written(chain))
        assert [type(step).__name__ for step in steps] == [name for name, _ in chain]
        assert read_steps(as_line(steps)) == steps
        spec = InputSpec(steps=steps)
        assert InputSpec(**json.loads(json.dumps(spec.to_dict()))) == spec
        assert eval(f"InputSpec(steps={tuple(map(str, steps))!r})") == spec


def test_a_shape_that_is_fixed_is_that_of_every_scan():
    fixed = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        steps = read_steps(written(random_chain(rng)))
        shape = fixed_shape(steps)
        if shape is None:
            continue
        fixed += 1
        for _ in range(2):
            data = rng.random(rng.integers(6, 30, 3))
            volume = Volume(data, oblique_affine(rng))
            try:
                conformed = conform(volume, InputSpec((7, 7, 7), steps=steps))
            except VolumeError:
                continue
            bare = conform(volume, InputSpec(steps=steps, window=(1, 1, 1)))
            assert bare.data.shape == shape
            assert conformed.data.shape == (7, 7, 7)
        assert InputSpec(steps=steps).shape == shape
    assert fixed > 10


def test_without_steps_nothing_is_said_of_them():
    assert "steps" not in InputSpec().to_dict()
    assert InputSpec().intensity == "max"
    assert InputSpec(steps="ScaleIntensity()").intensity == "none"


def test_rules_shape_and_window_follow_the_steps():
    data = np.random.default_rng(0).random((10, 11, 12)) * 50
    steps = "ScaleIntensity(minv=-2, maxv=2), CenterSpatialCrop((8, 8, 8))"
    first = conform(Volume(data), InputSpec(steps=steps)).data
    after = conform(Volume(data), InputSpec((6, 6, 6), steps=steps, intensity="clip -1 1")).data
    np.testing.assert_array_equal(after, first[1:7, 1:7, 1:7].clip(-1, 1))
    assert conform(Volume(data), InputSpec(steps=steps, window=(9, 4, 4))).data.shape == (9, 8, 8)


@pytest.mark.parametrize(
    "steps",
    [
        "Spacing(",
        "Spacing",
        "ScaleIntensity() ScaleIntensity()",
        "Spacing(pixdim=x)",
        "__import__('os').system('true')",
        "Spacin((1, 1, 1))",
        "Spacing()",
        "Spacing((1, 1, 1), speed=3)",
        "Spacing((1, 1, 1, 1))",
        "Spacing((1, 1, 'a'))",
        "Spacing((1, 1, float('nan')))",
        "Spacing((1, 1, 1), mode='bicubic')",
        "Orientation('RAR')",
        "Resize((1, 2))",
        "Resize((4, 4, 4), align_corners=True)",
        "Resize((4, 4, 5), size_mode='longest')",
        "CenterSpatialCrop((4.5, 4, 4))",
        "CropForeground(margin=-1)",
        "ScaleIntensityRange(0, 1, clip=True)",
        "ScaleIntensityRangePercentiles(-1, 99, 0, 1)",
        "ClipIntensityPercentiles(None, None)",
        "ClipIntensityPercentiles(60, 40)",
        "NormalizeIntensity(subtrahend=[1])",
        "NormalizeIntensity(divisor=2, channel_wise=True)",
        "ScaleIntensity(" + "1" * 20_000 + ")",
        "(" * 2000,
        3,
        [3],
        None,
        {"ScaleIntensity": {}},
    ],
    ids=lambda steps: str(steps)[:40],
)
def test_what_is_no_list_of_steps_is_refused_in_plain_words(steps, plain):
    with pytest.raises(VolumeError) as caught:
        InputSpec(steps=steps)
    text = plain(caught.value)
    assert len(text) < 400
    assert text.count(", ") < 12


def test_a_mistyped_step_has_its_nearest_named():
    with pytest.raises(VolumeError, match="nearest are Spacing"):
        InputSpec(steps="Spaceing((1, 1, 1))")


@pytest.mark.parametrize(
    "more", [{"spacing": (1, 1, 1)}, {"orientation": "RAS"}, {"shape": (4, 4, 4), "resize": True}]
)
def test_steps_go_without_what_they_say_themselves(more, plain):
    with pytest.raises(VolumeError) as caught:
        InputSpec(steps="ScaleIntensity()", **more)
    assert "ScaleIntensity()" in plain(caught.value)


def test_a_scan_that_a_step_does_not_suit_is_refused(plain):
    with pytest.raises(VolumeError) as caught:
        conform(Volume(-np.ones((4, 4, 4))), InputSpec(steps="CropForeground()"))
    plain(caught.value)
    volumes = [Volume(np.ones((4, 4, 4)))] * 2
    given = "NormalizeIntensity(subtrahend=(1, 2, 3), channel_wise=True)"
    with pytest.raises(VolumeError) as caught:
        conform(volumes, InputSpec(steps=given, channels=2))
    assert "3 channel(s), but the model takes 2" in plain(caught.value)
    with pytest.raises(VolumeError) as caught:
        conform(volumes, InputSpec(steps="CropForeground(channel_indices=2)", channels=2))
    plain(caught.value)


def test_an_orientation_that_is_not_known_is_noted_and_the_other_steps_are_done():
    volume = Volume(np.arange(24.0).reshape(2, 3, 4), name="scan", orientation_known=False)
    conformed = conform(volume, InputSpec(steps="Orientation('LPS'), ScaleIntensity()"))
    np.testing.assert_allclose(conformed.data, volume.data / 23, rtol=1e-6)
    assert any("'scan' does not say how it is oriented" in note for note in conformed.notes)


def test_another_scan_is_cut_as_the_first_also_to_its_foreground():
    rng = np.random.default_rng(0)
    first, other = np.zeros((12, 13, 14)), rng.random((12, 13, 14)) + 0.1
    first[3:9, 2:10, 4:12] = 1
    spec = InputSpec(steps="Orientation('PIR'), CropForeground(margin=1), Resize((9, 9, 9))")
    affine = oblique_affine(rng)
    like = conform(Volume(first, affine).reoriented("SAR", remember=True), spec)
    beside = conform(Volume(other, affine).reoriented("SAR"), spec, like=like)
    cut = np.zeros_like(other)
    cut[2:10, 1:11, 3:13] = other[2:10, 1:11, 3:13]
    alone = conform(
        Volume(cut, affine),
        InputSpec(steps=str(spec.steps[0]) + ", CropForeground(), Resize((9, 9, 9))"),
    )
    np.testing.assert_allclose(beside.data, alone.data, atol=1e-6)
    np.testing.assert_allclose(beside.affine, like.affine)


def test_content_that_steps_crop_is_noted():
    data = np.zeros((10, 10, 10))
    data[0], data[5] = 1, 3
    (note,) = conform(Volume(data, name="scan"), InputSpec(steps="CenterSpatialCrop(6)")).notes
    assert note.startswith("73.0% of 'scan'")
    assert "6 x 6 x 6" in note
    kept = conform(Volume(data, name="scan"), InputSpec(steps="CropForeground(), SpatialPad(16)"))
    assert kept.notes == ()
