"""One call for every method."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from napari_cnnvis.errors import MethodError
from napari_cnnvis.explain.attribution import Attribution
from napari_cnnvis.explain.layers.layer_maps import LayerMaps
from napari_cnnvis.explain.request import ExplainRequest
from napari_cnnvis.models.model import Model
from napari_cnnvis.progress import Progress
from napari_cnnvis.scan.volume import Scan
from napari_cnnvis.ucm.hierarchy import Hierarchy

__all__ = ["explain"]


def explain(
    model: Model,
    volume: Scan,
    method: str | ExplainRequest,
    *,
    target: int | str | None = None,
    hierarchy: Hierarchy | None = None,
    progress: Callable[[Progress], None] | None = None,
    cancel: threading.Event | None = None,
    **parameters: Any,
) -> Attribution | LayerMaps:
    """Run any method by its key, or what a request asks for.

    Parameters
    ----------
    model : Model
    volume : Volume, or a sequence with one for each input channel
    method : str or ExplainRequest
        A key of `methods`, such as "grad-cam"; a request holds target and parameters, too.
    target : int or str
        The class to explain, by index or name.
    hierarchy : Hierarchy, optional
        For methods on regions; built from the volume if not given.
    progress : callable, optional
        Called with a `Progress` after each step, with the map so far where there is one.
    cancel : threading.Event, optional
        When set, the map so far is returned, marked partial.
    **parameters
        Those of the method; see ``methods()[key].parameters()``.

    Returns
    -------
    Attribution, or LayerMaps for layer "all"

    Raises
    ------
    CnnVisError
        If there is no such method, parameter or class, or the run fails; see `cam`,
        `grad_cam`, `sensitivity`, `box_sensitivity` and `build_hierarchy`.

    Examples
    --------
    >>> import napari_cnnvis as cv
    >>> map_ = cv.explain(model, volume, "grad-cam", target="AD", layer="conv4c")  # doctest: +SKIP
    """
    if isinstance(method, ExplainRequest):
        request = method.replaced(target, **parameters)
    elif target is None:
        raise MethodError("Say which class to explain: target=0 or target='AD'.")
    else:
        request = ExplainRequest(method, target, **parameters)
    return request.how.run(
        model, volume, request.target, hierarchy=hierarchy, progress=progress, cancel=cancel
    )
