"""A bundle's input is taken from its preprocessing and metadata."""

import numpy as np
import pytest

from napari_cnnvis.models.formats import monai_input
from napari_cnnvis.models.formats.monai_bundle import read_bundle
from napari_cnnvis.scan.conform import InputSpec
from napari_cnnvis.scan.intensity import INTENSITY_RULES

from .bundles import DENSENET, INFERENCE, METADATA, bundle


def with_steps(*steps):
    return {
        **INFERENCE,
        "preprocessing": {"_target_": "Compose", "transforms": list(steps)},
        "size": [48, 48, 32],
    }


def input_and_notes(tmp_path, *steps, metadata=False):
    file = read_bundle(bundle(tmp_path, with_steps(*steps), metadata))
    InputSpec(**file.header["input"])
    return file.header["input"], file.notes


def test_transforms_exist_in_monai_and_do_the_same():
    transforms = pytest.importorskip("monai.transforms")
    gone = {"AddChannel", "AsChannelFirst"}  # from MONAI 1.x on
    for name in {*monai_input._READERS, *monai_input._HARMLESS} - gone:
        assert hasattr(transforms, f"{name}d")
    x = np.random.default_rng(0).gamma(2, 3, (8, 9, 10)).astype(np.float32)
    x[:4] = 0
    for rule, transform in {
        "range": transforms.ScaleIntensity(),
        "percentile": transforms.ScaleIntensityRangePercentiles(1, 99, 0, 1, clip=True),
    }.items():
        assert np.allclose(INTENSITY_RULES[rule](x), transform(x[None])[0], atol=1e-5)
    normalized = transforms.NormalizeIntensity(nonzero=True)(x[None])[0].numpy()
    assert np.allclose(INTENSITY_RULES["z-score"](x)[x != 0], normalized[x != 0], atol=1e-4)


LOAD = {"_target_": "LoadImage"}


@pytest.mark.parametrize(
    ("step", "field"),
    [
        ({"_target_": "Orientation", "axcodes": "LPS"}, {"orientation": "LPS"}),
        ({"_target_": "OrientationD", "keys": ["image"], "axcodes": ["L", "A", "S"]},
         {"orientation": "LAS"}),
        ({"_target_": "monai.transforms.OrientationDict", "keys": "image",
          "as_closest_canonical": True}, {"orientation": "RAS"}),
        ({"_target_": "Spacing", "pixdim": 2}, {"spacing": [2, 2, 2]}),
        ({"_target_": "Spacing", "pixdim": [1.0, 2.0]}, {"spacing": [1.0, 2.0, 2.0]}),
        ({"_target_": "CenterSpatialCrop", "roi_size": 64}, {"shape": [64, 64, 64]}),
        ({"_target_": "ResizeWithPadOrCropd", "keys": "image", "spatial_size": "@size"},
         {"shape": [48, 48, 32]}),
        ({"_target_": "ScaleIntensity", "minv": 0.0, "maxv": 1.0}, {"intensity": "range"}),
        ({"_target_": "ScaleIntensityRangePercentilesd", "keys": "image", "lower": 1, "upper": 99,
          "b_min": 0, "b_max": 1, "clip": True}, {"intensity": "percentile"}),
        ({"_target_": "Resized", "keys": "image", "spatial_size": [96, 96, 64]},
         {"shape": [96, 96, 64], "resize": True}),
        ({"_target_": "NormalizeIntensity", "nonzero": True}, {"intensity": "z-score-nonzero"}),
        ({"_target_": "ScaleIntensityRange", "a_min": 0, "a_max": 9, "b_min": 0, "b_max": 1,
          "clip": True}, {"intensity": "window 0.0 9.0"}),
        ({"_target_": "ToTensord", "keys": ["image", "label"]}, {}),
        ({"_target_": "Lambdad", "keys": "label", "func": "$lambda x: x"}, {}),
        ({"_target_": "CropForeground", "_disabled_": True}, {}),
    ],
)  # fmt: skip
def test_steps_that_are_reproduced(tmp_path, step, field):
    fields, notes = input_and_notes(tmp_path, LOAD, step)
    assert fields == {"intensity": "none", **field}
    assert len(notes) == bool({"spacing", "resize"} & field.keys())
    assert all("own interpolation" in note for note in notes)


@pytest.mark.parametrize(
    ("step", "field", "words"),
    [
        ({"_target_": "CenterSpatialCrop", "roi_size": 33}, {"shape": [33, 33, 33]}, "odd size"),
        ({"_target_": "ScaleIntensityRangePercentiles", "lower": 1, "upper": 99, "b_min": 0.0,
          "b_max": 1.0}, {"intensity": "percentile"}, "does not clip"),
    ],
)  # fmt: skip
def test_steps_that_differ_a_little(tmp_path, step, field, words):
    fields, (note,) = input_and_notes(tmp_path, LOAD, step)
    assert fields == {"intensity": "none", **field}
    assert words in note


@pytest.mark.parametrize(
    "step",
    [
        {"_target_": "Orientation", "axcodes": "RAX"},
        {
            "_target_": "Orientation",
            "axcodes": "RAS",
            "labels": [["R", "L"], ["A", "P"], ["I", "S"]],
        },
        {"_target_": "Spacing", "pixdim": [1, 1, -1]},
        {"_target_": "Spacing", "pixdim": "$np.ones(3)"},
        {"_target_": "Resize", "spatial_size": [64, 64, -1]},
        {"_target_": "Resize", "spatial_size": 64, "size_mode": "longest"},
        {"_target_": "ResizeWithPadOrCrop", "spatial_size": 64, "method": "end"},
        {"_target_": "SpatialPad", "spatial_size": 64},
        {"_target_": "NormalizeIntensity"},
        {"_target_": "NormalizeIntensity", "nonzero": True, "subtrahend": 3},
        {"_target_": "ScaleIntensity", "minv": -1},
        {"_target_": "ScaleIntensity", "minv": None, "maxv": None, "factor": 2},
        {"_target_": "ScaleIntensityRange", "a_min": 0, "a_max": 9, "b_min": 0, "b_max": 1},
        {
            "_target_": "ScaleIntensityRangePercentiles",
            "lower": 5,
            "upper": 95,
            "b_min": 0,
            "b_max": 1,
        },
        {"_target_": "CropForeground"},
    ],
    ids=str,
)
def test_steps_that_are_not_understood_are_named(tmp_path, step):
    fields, notes = input_and_notes(tmp_path, LOAD, step)
    assert fields == {"intensity": "none"}
    assert notes == (f"the bundle also applies {step['_target_']}, which is not reproduced",)


def test_several_steps(tmp_path):
    fields, notes = input_and_notes(
        tmp_path,
        LOAD,
        {"_target_": "CropForegroundd", "keys": ["image"], "source_key": "image"},
        {"_target_": "ScaleIntensityd", "keys": "image"},
        {"_target_": "SpatialPadd", "keys": "image", "spatial_size": [48, 48, 32]},
        {"_target_": "Compose", "transforms": [
            {"_target_": "CenterSpatialCropd", "keys": "image", "roi_size": "@size"}]},
        {"_target_": "CenterSpatialCropd", "keys": "image", "roi_size": 16},
        {"_target_": "NormalizeIntensityd", "keys": "image", "nonzero": True},
        "$my_own_step",
        metadata=METADATA,
    )  # fmt: skip
    assert fields == {"shape": [48, 48, 32], "intensity": "range, z-score-nonzero"}
    assert notes == (
        "the bundle scales intensities before CenterSpatialCropd; here they are scaled last, so the "
        "network's input differs",
        "the bundle also applies CropForegroundd, CenterSpatialCropd, Python code ($my_own_step), "
        "which are not reproduced",
    )


def test_preprocessing_made_by_code(tmp_path):
    config = {**INFERENCE, "preprocessing": "$make_steps()"}
    file = read_bundle(bundle(tmp_path, config, metadata=False))
    assert file.header["input"] == {"intensity": "none"}
    assert file.notes == (
        "the bundle also applies Python code ($make_steps()), which is not reproduced",
    )


def test_nothing_said_of_preprocessing(tmp_path):
    config = {"network_def": INFERENCE["network_def"]}
    assert read_bundle(bundle(tmp_path, config, metadata=False)).header == {
        "architecture": DENSENET
    }


@pytest.mark.parametrize(
    ("inputs", "fields"),
    [
        ({"num_channels": 4, "spatial_shape": [8, 8, 8]}, {"shape": [8, 8, 8], "channels": 4}),
        ({"num_channels": 1, "spatial_shape": ["16*n", "*", 16]}, None),
        ({"num_channels": "n", "spatial_shape": [64, 64]}, None),
        ({"spatial_shape": [0, 8, 8]}, None),
        ([1], None),
        ("image", None),
    ],
)
def test_inputs_in_the_metadata(tmp_path, inputs, fields):
    metadata = {"network_data_format": {"inputs": {"image": inputs}}}
    config = {"network_def": INFERENCE["network_def"]}
    assert read_bundle(bundle(tmp_path, config, metadata)).header.get("input") == fields


INTENSITY = {"_target_": "ScaleIntensityd", "keys": "image"}
CROP = {"_target_": "CenterSpatialCropd", "keys": "image", "roi_size": [32, 32, 32]}


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        (INTENSITY, CROP, "scales intensities before CenterSpatialCropd"),
        (INTENSITY, {"_target_": "Resize", "spatial_size": 32}, "before Resize"),
        (INTENSITY, {"_target_": "Spacing", "pixdim": 2}, "before Spacing"),
        (CROP, {"_target_": "Spacing", "pixdim": 2}, "crops, pads or resizes before Spacing"),
        (CROP, {"_target_": "Orientation", "axcodes": "LPS"}, "before Orientation"),
    ],
)
def test_an_order_that_is_not_reproduced_is_said(tmp_path, first, second, words):
    assert words in " ".join(input_and_notes(tmp_path, LOAD, first, second)[1])
