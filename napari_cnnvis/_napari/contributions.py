"""napari's reader, writer and sample data contributions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from napari_cnnvis._napari.layers.maps import map_arguments, whole_map
from napari_cnnvis._napari.layers.scans import layer_to_volume, volume_to_layer
from napari_cnnvis.sample_data import sample_path
from napari_cnnvis.scan.files import read_volumes, write_volume
from napari_cnnvis.scan.opening import SCAN_ENDINGS

__all__ = ["get_reader", "open_sample", "read_scans", "write_scan"]

LayerData = tuple[Any, dict[str, Any], str]
_ENDINGS = (*SCAN_ENDINGS, ".hdr", ".hdr.gz")
#: so many volumes of a 4D file are opened, a layer each
_MOST_LAYERS = 12


def get_reader(path: str | Sequence[str]) -> Callable[[Any], list[LayerData]] | None:
    """The reader, if every path has an ending that it reads."""
    paths = [path] if isinstance(path, str) else list(path)
    if all(str(p).lower().endswith(_ENDINGS) for p in paths):
        return read_scans
    return None


def read_scans(path: str | Sequence[str]) -> list[LayerData]:
    """An image layer for each scan or saved map, or each of a few volumes of a 4D file.

    What was doubtful is shown as a warning.
    """
    from napari.utils.notifications import show_warning

    from napari_cnnvis.explain.record import read_record

    layers = []
    for one in [path] if isinstance(path, str) else path:
        if read_record(one) is not None:
            layers.append(_read_map(one))
            continue
        volumes = read_volumes(one, _MOST_LAYERS)
        for note in dict.fromkeys(note for volume in volumes for note in volume.notes):
            show_warning(note)
        layers += [(*volume_to_layer(volume), "image") for volume in volumes]
    return layers


def _read_map(path: str) -> LayerData:
    """A saved map with its looks, on the axes of the viewer."""
    from napari_cnnvis.explain.attribution import Attribution

    attribution = Attribution.load(path)
    data, arguments = volume_to_layer(attribution.source)
    return data, map_arguments(arguments, attribution, data), "image"


def write_scan(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
    """Save an image layer in the orientation, sform and qform of the file it came from."""
    volume = layer_to_volume(whole_map(data, attributes), attributes, as_scan=False)
    if volume.stored_orientation is not None:
        volume = volume.reoriented(volume.stored_orientation)
    return [str(write_volume(volume, path, overwrite=True))]  # napari's dialog has asked


def open_sample(name: str) -> list[LayerData]:
    """Layers of a scan in ``sample_data``."""
    return read_scans(str(sample_path(name)))


def open_template() -> list[LayerData]:
    """The MNI152 T1 template, skull-stripped, 2 mm."""
    return open_sample("mni152_t1_2mm.nii.gz")


def open_control() -> list[LayerData]:
    """A simulated subject without atrophy."""
    return open_sample("simulated_control.nii.gz")


def open_patient() -> list[LayerData]:
    """A simulated subject with atrophy."""
    return open_sample("simulated_atrophy.nii.gz")


def open_severe_patient() -> list[LayerData]:
    """A simulated subject with severe atrophy."""
    return open_sample("simulated_atrophy_severe.nii.gz")
