"""What is run on all scans: the session's network and method, where they suit a list of files."""

from __future__ import annotations

from typing import Any

from napari_cnnvis._napari.session.session import Session
from napari_cnnvis.errors import CnnVisError, MethodError
from napari_cnnvis.explain.request import ExplainRequest

__all__ = ["model_for_scans", "request_for_scans", "request_or_none"]


def model_for_scans(session: Session) -> Any:
    """The network.

    Raises
    ------
    CnnVisError
        If there is none, or it takes several channels.
    """
    if session.model is None:
        raise CnnVisError("No network is loaded; choose a checkpoint.")
    channels = session.model.input_spec.channels
    if channels > 1:
        raise CnnVisError(
            f"This network takes {channels} input channels, but a scan here is one file; open "
            "its images as layers and use the panel Explain CNN."
        )
    return session.model


def request_for_scans(session: Session) -> ExplainRequest:
    """The method and its parameters as they are set.

    Raises
    ------
    CnnVisError
        If they do not fit together, or take supervoxels of a layer.
    """
    request = session.asked.request()
    if request.how.takes_hierarchy and session.asked.regions_layer is not None:
        raise MethodError(
            "Supervoxels of a layer belong to one scan; choose 'built from the scan' in the panel "
            "Explain CNN."
        )
    return request


def request_or_none(session: Session) -> ExplainRequest | None:
    """The request, or None where there is none for all scans."""
    try:
        return None if session.model is None else request_for_scans(session)
    except CnnVisError:
        return None
