"""Does a network respond to a scan more than networks with random weights do?

If it does not, no map of it means anything, however sharp it looks.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from napari_cnnvis.evaluate.trust.deletion import score_of
from napari_cnnvis.evaluate.trust.randomisation import copy_of, layers_with_parameters, randomise
from napari_cnnvis.explain.scoring.baselines import make_baselines
from napari_cnnvis.explain.scoring.occluded_scan import OccludedScan
from napari_cnnvis.models.model import Model
from napari_cnnvis.progress import Progress

__all__ = ["NetworkResponse", "network_response"]

#: what the scan is compared with besides the baseline of the deletion curves: its detail gone,
#: and detail that means nothing
_ALTERED = ("blur", "noise")


@dataclass(frozen=True)
class NetworkResponse:
    """How much the score of a scan differs from those of the same scan without its detail.

    Attributes
    ----------
    response : float
        The largest |score(scan) - score(other)|, with as other the scan whose brain became
        the baseline, is blurred, or became noise; as log-odds of the target (or the value
        of a regression).
    random : tuple of float
        The same of copies of the network with random weights.
    score : {"log_odds", "value"}
    """

    response: float
    random: tuple[float, ...]
    score: str

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        return {**asdict(self), "random": list(self.random)}


def network_response(
    model: Model,
    scan: OccludedScan,
    target: int,
    head: np.ndarray,
    *,
    networks: int = 6,
    seed: int = 0,
    progress: Callable[[Progress], None] | None = None,
    cancel: threading.Event | None = None,
) -> NetworkResponse | None:
    """Compare a network's response to a scan with those of copies with random weights.

    Every other copy is initialised as when the network was made, the rest after He et
    al. 2015 (arXiv:1502.01852), as signals die away in deep networks of torch's default
    initialisation, and a network made otherwise would seem to respond. Responses of the
    latter grow with the input, and are divided by its strength where that is above 1.

    Parameters
    ----------
    model : Model
    scan : OccludedScan
        With one baseline.
    target : int
    head : array of bool, shape of the model's grid
    networks : int
        Copies.
    seed : int
    progress, cancel
        As in `sensitivity`.

    Returns
    -------
    NetworkResponse, or None if cancelled

    Raises
    ------
    MethodError
        If the network cannot be copied.
    ComputeError
        If it cannot run.
    """
    channels = scan.conformed.channels
    spacing = scan.conformed.spacing
    baselines = [scan.baselines[0]]
    baselines += [
        make_baselines(channels, name, spacing, scan.conformed.heads) for name in _ALTERED
    ]
    inputs = [channels]
    for baseline in baselines:
        flat = np.flatnonzero(head & baseline.replaces)
        altered = channels.reshape(len(channels), -1).copy()
        altered[:, flat] = baseline.values(flat)
        inputs.append(altered.reshape(channels.shape))
    strength = float(np.sqrt(np.mean(channels[:, head].astype(np.float64) ** 2)))

    def response_of(one: Model) -> float:
        raw = [one.logits(one.tensor(x)).double().cpu().numpy() for x in inputs]
        scores = score_of(one.outputs, np.concatenate(raw), target, "log_odds")
        return float(np.abs(scores[1:] - scores[0]).max())

    own = response_of(model)
    random, copied, names = [], copy_of(model), []
    for number in range(networks):
        if cancel is not None and cancel.is_set():
            return None
        names = names or layers_with_parameters(copied, copied.tensor(channels))
        he = number % 2 == 1
        randomise(copied, names, seed + number, "he" if he else "default")
        response = response_of(copied)
        random.append(response / max(strength, 1.0) if he else response)
        if progress is not None:
            progress(Progress(number + 1, networks, "asking random networks"))
    score = "log_odds" if model.outputs.has_probabilities else "value"
    return NetworkResponse(own, tuple(random), score)
