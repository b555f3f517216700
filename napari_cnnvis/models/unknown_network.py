"""What is said of weights whose network nothing names."""

from __future__ import annotations

from napari_cnnvis.errors import CheckpointError
from napari_cnnvis.models.formats.checkpoint_file import CheckpointFile
from napari_cnnvis.models.networks.builtin import ARCHITECTURES
from napari_cnnvis.models.networks.lookalikes import looks_like

__all__ = ["UnknownNetwork", "unknown_network"]


class UnknownNetwork(CheckpointError):
    """Nothing says which network a file's weights belong to.

    Attributes
    ----------
    suggestion : str
        The architecture that they seem to have, or "".
    """

    def __init__(self, text: str, suggestion: str = "") -> None:
        super().__init__(text)
        self.suggestion = suggestion


def unknown_network(file: CheckpointFile) -> UnknownNetwork:
    """The error for a file, with what its weights look like where they look like anything."""
    similar = looks_like(file.state)
    if similar:
        return UnknownNetwork(
            f"{file.path} has the weights of {similar}, it seems, but does not say so. Give that as "
            "the architecture: load_model(path, arch='...'), --arch, or the panel's field "
            "'Architecture', where it stands already.",
            similar,
        )
    if file.pickled and file.code_error:
        return UnknownNetwork(file.code_error)
    some = ", ".join(list(file.state)[:3])
    text = (
        f"{file.path} belongs to another network: none of {', '.join(ARCHITECTURES)} has weights "
        f"called {some}, ... Name the network (arch=... in Python, --arch on the command line, "
        "'Architecture' in the panel) as module:callable(arguments), such as "
        "'monai.networks.nets:resnet18(spatial_dims=3, n_input_channels=1, num_classes=2)' or "
        "'my_nets.py:MyNet()'."
    )
    if file.pickled:
        text += f" Or, if you trust where it comes from, load the pickled {file.pickled} with trust=True."
    return UnknownNetwork(text)
