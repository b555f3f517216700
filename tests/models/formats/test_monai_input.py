"""A bundle's input is taken from its preprocessing and metadata."""

import inspect
from dataclasses import MISSING, fields

import pytest

from napari_cnnvis.models.formats import monai_input
from napari_cnnvis.models.formats.monai_bundle import read_bundle
from napari_cnnvis.scan.conform import InputSpec
from napari_cnnvis.scan.steps.text import INPUT_STEPS

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


def test_transforms_exist_in_monai_with_our_arguments():
    transforms = pytest.importorskip("monai.transforms")
    gone = {"AddChannel", "AsChannelFirst"}  # from MONAI 1.x on
    for name in {*INPUT_STEPS, *monai_input._HARMLESS} - gone:
        assert hasattr(transforms, f"{name}d")
    for name, kind in INPUT_STEPS.items():
        theirs = inspect.signature(getattr(transforms, name)).parameters
        for one in fields(kind):
            if one.name not in theirs:  # MONAI takes them as further arguments of the padding
                assert (name, one.name) == ("CropForeground", "threshold") or one.name == "value"
                continue
            default = theirs[one.name].default
            needed = one.default is MISSING
            assert needed == (default is inspect.Parameter.empty) or name == "Orientation"
            if not needed and one.name not in ("dtype", "margin", "k_divisible"):
                assert one.default == getattr(default, "value", default)


LOAD = {"_target_": "LoadImage"}


@pytest.mark.parametrize(
    ("step", "text"),
    [
        ({"_target_": "Orientation", "axcodes": "LPS"}, "Orientation('LPS')"),
        ({"_target_": "OrientationD", "keys": ["image"], "axcodes": ["L", "A", "S"]},
         "Orientation('LAS')"),
        ({"_target_": "monai.transforms.OrientationDict", "keys": "image",
          "as_closest_canonical": True}, "Orientation('RAS')"),
        ({"_target_": "LoadImaged", "keys": "image", "as_closest_canonical": True},
         "Orientation('RAS')"),
        ({"_target_": "Spacing", "pixdim": 2}, "Spacing((2, 2, 2))"),
        ({"_target_": "Spacing", "pixdim": [1.0, 2.5], "diagonal": False, "dtype": "$np.float32"},
         "Spacing((1, 2.5, 2.5), dtype='float32')"),
        ({"_target_": "Spacingd", "keys": ["label", "image"], "pixdim": [1, 1, -1],
          "mode": ["nearest", "bilinear"], "padding_mode": "zeros"},
         "Spacing((1, 1, -1), padding_mode='zeros')"),
        ({"_target_": "CenterSpatialCrop", "roi_size": 64}, "CenterSpatialCrop((64, 64, 64))"),
        ({"_target_": "ResizeWithPadOrCropd", "keys": "image", "spatial_size": "@size",
          "method": "end"}, "ResizeWithPadOrCrop((48, 48, 32), method='end')"),
        ({"_target_": "SpatialPad", "spatial_size": [64, 32, 64], "mode": "edge"},
         "SpatialPad((64, 32, 64), mode='edge')"),
        ({"_target_": "SpatialPad", "spatial_size": 8, "constant_values": -1},
         "SpatialPad((8, 8, 8), value=-1)"),
        ({"_target_": "Resized", "keys": "image", "spatial_size": [96, 96, -1],
          "mode": "trilinear", "align_corners": True},
         "Resize((96, 96, -1), mode='trilinear', align_corners=True)"),
        ({"_target_": "Resize", "spatial_size": 64, "size_mode": "longest"},
         "Resize((64, 64, 64), size_mode='longest')"),
        ({"_target_": "CropForegroundd", "keys": ["image", "label"], "source_key": "image",
          "select_fn": "$lambda x: x > 0.5", "allow_smaller": True, "margin": 3},
         "CropForeground(threshold=0.5, margin=(3, 3, 3), allow_smaller=True)"),
        ({"_target_": "ScaleIntensity", "minv": -1.0, "maxv": 1.0}, "ScaleIntensity(minv=-1)"),
        ({"_target_": "ScaleIntensity", "minv": None, "maxv": None, "factor": 2},
         "ScaleIntensity(minv=None, maxv=None, factor=2)"),
        ({"_target_": "ScaleIntensityRangePercentilesd", "keys": "image", "lower": 1, "upper": 99,
          "b_min": 0, "b_max": 1, "clip": True},
         "ScaleIntensityRangePercentiles(lower=1, upper=99, b_min=0, b_max=1, clip=True)"),
        ({"_target_": "NormalizeIntensity", "nonzero": True, "channel_wise": True},
         "NormalizeIntensity(nonzero=True, channel_wise=True)"),
        ({"_target_": "NormalizeIntensity", "subtrahend": 3, "dtype": "float32"},
         "NormalizeIntensity(subtrahend=3)"),
        ({"_target_": "ScaleIntensityd", "keys": ["t1", "t2"]}, "ScaleIntensity(channel_wise=True)"),
        ({"_target_": "ScaleIntensityRange", "a_min": 0, "a_max": 9},
         "ScaleIntensityRange(a_min=0, a_max=9)"),
        ({"_target_": "ThresholdIntensityd", "keys": "image", "threshold": 0.0},
         "ThresholdIntensity(0)"),
        ({"_target_": "CastToTyped", "keys": "image", "dtype": "$torch.float32"}, None),
        ({"_target_": "ToTensord", "keys": ["image", "label"]}, None),
        ({"_target_": "ConcatItemsd", "keys": ["t1", "t2"], "name": "image"}, None),
        ({"_target_": "Lambdad", "keys": "label", "func": "$lambda x: x"}, None),
        ({"_target_": "CropForeground", "_disabled_": True}, None),
    ],
)  # fmt: skip
def test_steps_that_are_reproduced(tmp_path, step, text):
    fields, notes = input_and_notes(tmp_path, LOAD, step)
    assert fields == {**({"steps": [text]} if text else {}), "intensity": "none"}
    assert notes == ()


@pytest.mark.parametrize(
    "step",
    [
        {"_target_": "LoadImage", "reverse_indexing": True},
        {"_target_": "LoadImage", "dtype": "$np.int16"},
        {"_target_": "CastToTyped", "keys": "image", "dtype": "$np.uint8"},
        {"_target_": "Orientation", "axcodes": "RAX"},
        {"_target_": "Orientation", "axcodes": "RAS",
         "labels": [["R", "L"], ["A", "P"], ["I", "S"]]},
        {"_target_": "Spacing", "pixdim": [1, 1, 1], "diagonal": True},
        {"_target_": "Spacing", "pixdim": [1, 1, 1], "min_pixdim": [0.5, 0.5, 0.5]},
        {"_target_": "Spacing", "pixdim": [1, 1, 1], "mode": 3},
        {"_target_": "Spacing", "pixdim": "$np.ones(3)"},
        {"_target_": "Spacingd", "keys": ["t1", "t2"], "pixdim": 1, "mode": ["nearest", "bilinear"]},
        {"_target_": "Resize", "spatial_size": [64, 64]},
        {"_target_": "Resize", "spatial_size": 64, "mode": "bicubic"},
        {"_target_": "SpatialPad", "spatial_size": 64, "mode": "linear_ramp"},
        {"_target_": "NormalizeIntensity", "nonzero": True, "subtrahend": "$x"},
        {"_target_": "NormalizeIntensityd", "keys": ["t1", "t2"], "subtrahend": 3},
        {"_target_": "ScaleIntensity", "dtype": "$np.uint8"},
        {"_target_": "ClipIntensityPercentiles", "lower": 1, "upper": 99, "sharpness_factor": 10},
        {"_target_": "CropForegroundd", "keys": "image", "source_key": "mask"},
        {"_target_": "CropForegroundd", "keys": "image", "source_key": "image",
         "select_fn": "$my_function"},
        {"_target_": "HistogramNormalized", "keys": "image"},
    ],
    ids=str,
)  # fmt: skip
def test_steps_that_are_not_reproduced_are_named(tmp_path, step):
    fields, notes = input_and_notes(tmp_path, step)
    assert fields == {"intensity": "none"}
    assert notes == (f"the bundle also applies {step['_target_']}, which is not reproduced",)


def test_several_steps_keep_their_order(tmp_path):
    fields, notes = input_and_notes(
        tmp_path,
        LOAD,
        {"_target_": "CropForegroundd", "keys": ["image"], "source_key": "image", "margin": 1},
        {"_target_": "ScaleIntensityd", "keys": "image"},
        {"_target_": "GaussianSmoothd", "keys": "image"},
        {"_target_": "Compose", "transforms": [
            {"_target_": "CenterSpatialCropd", "keys": "image", "roi_size": "@size"}]},
        {"_target_": "ScaleIntensityd", "keys": "image"},
        "$my_own_step",
        metadata=METADATA,
    )  # fmt: skip
    assert fields == {
        "steps": [
            "CropForeground(margin=(1, 1, 1))",
            "ScaleIntensity()",
            "CenterSpatialCrop((48, 48, 32))",
            "ScaleIntensity()",
        ],
        "intensity": "none",
        "shape": [96, 112, 96],
    }
    assert notes == (
        "CropForegroundd has a margin: it goes beyond the scan's edge as in MONAI 1.5 and later "
        "(allow_smaller=False)",
        "the bundle also applies GaussianSmoothd, Python code ($my_own_step), which are not "
        "reproduced",
        "after the bundle's steps, scans are padded or cropped about their centre to the "
        "96 x 112 x 96 voxels that its metadata says",
    )


@pytest.mark.parametrize("where", ["Compose", "step"])
def test_lazy_resampling_is_said(tmp_path, where):
    steps = [{"_target_": "Orientation", "axcodes": "RAS"}, {"_target_": "Spacing", "pixdim": 2}]
    if where == "step":
        steps[1]["lazy"] = True
    else:
        steps = [{"_target_": "Compose", "lazy": True, "transforms": steps}]
    fields, (note,) = input_and_notes(tmp_path, LOAD, *steps)
    assert fields["steps"] == ["Orientation('RAS')", "Spacing((2, 2, 2))"]
    assert "(lazy=True), which is not reproduced" in note


def test_of_many_steps_that_are_not_reproduced_few_are_named(tmp_path):
    steps = [{"_target_": f"Rand{n}"} for n in range(30)]
    (note,) = input_and_notes(tmp_path, *steps)[1]
    assert "Rand7 and 22 more, which are not reproduced" in note


def test_steps_that_end_in_one_shape_need_no_metadata(tmp_path):
    step = {"_target_": "Resize", "spatial_size": [32, 40, 48]}
    fields, notes = input_and_notes(tmp_path, LOAD, step, metadata=METADATA)
    assert InputSpec(**fields).shape == (32, 40, 48)
    assert notes == ()


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
