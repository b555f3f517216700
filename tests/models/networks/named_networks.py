"""Files that name a network: in a header, beside the weights, in a bundle, in MAPS."""

import json

import torch
from safetensors.torch import save_file

from napari_cnnvis.models.formats.checkpoint_file import HEADER_KEY
from napari_cnnvis.models.networks.factories import parse_architecture


class _Evil:
    def __init__(self, canary):
        self.canary = canary

    def __reduce__(self):
        import os

        return os.mkdir, (self.canary,)


def state():
    return {"conv.weight": torch.ones(2, 1, 3, 3, 3)}


def in_header(text, folder):
    header = json.dumps({"architecture": text})
    save_file(state(), folder / "net.safetensors", metadata={HEADER_KEY: header})
    return folder / "net.safetensors"


def in_sidecar(text, folder):
    torch.save(state(), folder / "net.pt")
    (folder / "net.json").write_text(json.dumps({"architecture": text}))
    return folder / "net.pt"


def in_bundle(text, folder):
    """As a bundle spells it: the dotted name of what is called, and its arguments."""
    factory = parse_architecture(text)
    dotted = ".".join(filter(None, (factory.place.removesuffix(".py"), factory.name)))
    network = {"_target_": dotted.replace("/", "."), **factory.keywords}
    network |= {f"a{n}": value for n, value in enumerate(factory.arguments)}
    bundle = folder / "bundle"
    (bundle / "configs").mkdir(parents=True)
    (bundle / "models").mkdir()
    (bundle / "configs/metadata.json").write_text("{}")
    (bundle / "configs/inference.json").write_text(json.dumps({"network_def": network}))
    torch.save(state(), bundle / "models/model.pt")
    return bundle
