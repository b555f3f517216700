"""MONAI bundles on disk."""

import json

import torch
import yaml

DENSENET = "monai.networks.nets:DenseNet121(spatial_dims=3, in_channels=1, out_channels=2)"


METADATA = {
    "version": "0.1.0",
    "network_data_format": {
        "inputs": {"image": {"num_channels": 1, "spatial_shape": [96, 112, 96]}},
        "outputs": {"pred": {"num_channels": 2, "channel_def": {"1": "CN", "0": "AD"}}},
    },
}


INFERENCE = {
    "imports": ["$import glob"],
    "device": "$torch.device('cuda' if torch.cuda.is_available() else 'cpu')",
    "network_def": {
        "_target_": "DenseNet121",
        "spatial_dims": 3,
        "in_channels": 1,
        "out_channels": 2,
    },
    "network": "$@network_def.to(@device)",
    "preprocessing": {
        "_target_": "Compose",
        "transforms": [
            {"_target_": "LoadImaged", "keys": "image"},
            {"_target_": "EnsureChannelFirstd", "keys": "image"},
            {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS"},
            {"_target_": "Spacingd", "keys": "image", "pixdim": [1.5, 1.5, 2]},
            {"_target_": "ScaleIntensityd", "keys": "image"},
            {
                "_target_": "ResizeWithPadOrCropd",
                "keys": "image",
                "spatial_size": [96, 112, 96],
            },
            {"_target_": "EnsureTyped", "keys": "image", "device": "@device"},
        ],
    },
}


def bundle(tmp_path, inference=None, metadata=None, weights=True, name="inference.json"):
    """A bundle's folder; `inference` and `metadata` are content, text or False for no file."""
    folder = tmp_path / "my_bundle"
    (folder / "configs").mkdir(parents=True)
    (folder / "models").mkdir()
    inference = INFERENCE if inference is None else inference
    metadata = METADATA if metadata is None else metadata
    for file, content in ((name, inference), ("metadata.json", metadata)):
        if content is not False:
            as_json = file.endswith(".json")
            dumped = json.dumps(content) if as_json else yaml.safe_dump(content, sort_keys=False)
            text = content if isinstance(content, str) else dumped
            (folder / "configs" / file).write_text(text)
    if weights:
        torch.save({"w": torch.ones(2, 3)}, folder / "models" / "model.pt")
    return folder


def with_network(**definition):
    return {**INFERENCE, "network_def": definition}
