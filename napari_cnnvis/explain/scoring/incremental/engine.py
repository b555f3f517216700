"""Score occluded volumes by computing again only what an occluded region can change.

The clean volume is run once and each layer's output is kept. For a region, the box that can
have changed is carried from layer to layer (receptive field arithmetic); only that box is
computed, with the halo it needs taken from what was kept. The result is that of a full pass,
up to the rounding of float32. In 2D, and for a square patch, this is known from [1]_; here
the regions are those of a hierarchy, and the network is any that can be traced.

References
----------
.. [1] S. Nakandala, A. Kumar, Y. Papakonstantinou, "Incremental and approximate inference for
   faster occlusion-based deep CNN explanations", SIGMOD 2019.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx

from napari_cnnvis.explain.scoring.incremental.classify import Program
from napari_cnnvis.explain.scoring.incremental.geometry import common
from napari_cnnvis.explain.scoring.incremental.operations import Context
from napari_cnnvis.explain.scoring.incremental.patches import Kept, Patch
from napari_cnnvis.explain.scoring.incremental.plan import Cones, cones_of, make_batches
from napari_cnnvis.explain.scoring.incremental.trace import shape_of
from napari_cnnvis.explain.scoring.occlusions import Occlusions
from napari_cnnvis.models.execution import OutOfMemory, full_float32, plain_errors

__all__ = ["IncrementalScorer", "kept_bytes"]

#: bytes of the largest result of a batch on the CPU; more does not fit its caches
_CPU_BUDGET = 16e6


class IncrementalScorer:
    """Scores regions through a traced network; see `RegionScorer`.

    Parameters
    ----------
    program : Program
        Of a network in evaluation mode.
    clean : Tensor, shape (1, 1, i, j, k)
        The volume, on the device and in the type to compute in.
    """

    def __init__(self, program: Program, clean: Tensor) -> None:
        self._program = program
        self._clean = clean
        self._image = clean[0].float().cpu().numpy().copy()  # a copy, to be written into
        self._constants = {
            node: value.to(clean.dtype) if _is_real(value) else value
            for node, value in program.constants.items()
        }
        self._forget = _last_readers(program)
        with torch.no_grad(), full_float32(), plain_errors("running the clean volume"):
            self.kept, self.clean_logits = self._run_clean()

    @property
    def dtype(self) -> torch.dtype:
        """The type that it computes in."""
        return self._clean.dtype

    @property
    def kept_bytes(self) -> int:
        """Memory that the clean outputs take."""
        return sum(k.nbytes for k in {id(k): k for k in self.kept.values()}.values())

    def cones(self, boxes: np.ndarray) -> Cones:
        """What regions with bounding boxes (n, 3, 2) change."""
        return cones_of(self._program, (boxes[..., 0], boxes[..., 1]), self._clean.itemsize)

    def score(self, occlusions: Occlusions) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """See `RegionScorer.score`.

        Raises
        ------
        ComputeError
            If memory runs out for a single region.
        """
        waiting = make_batches(self.cones(occlusions.boxes), self._budget())[::-1]
        while waiting:
            members = waiting.pop()
            try:
                with torch.no_grad(), full_float32(), plain_errors("scoring regions"):
                    logits = self._run(self._patch(occlusions, members))
                    scores = logits.float().cpu().numpy()
            except OutOfMemory:
                if len(members) == 1:
                    raise
                half = len(members) // 2
                waiting += [members[half:], members[:half]]
                if self._clean.device.type == "cuda":
                    torch.cuda.empty_cache()
                continue
            yield members, scores

    def _budget(self) -> float:
        if self._clean.device.type == "cuda":
            return torch.cuda.mem_get_info(self._clean.device)[0] / 8
        return _CPU_BUDGET

    def _patch(self, occlusions: Occlusions, members: np.ndarray) -> Patch:
        """The occluded input inside boxes of one size."""
        boxes = occlusions.boxes[members]
        low, size = common(boxes[..., 0], boxes[..., 1], np.array(self._image.shape[1:]))
        n_channels = len(self._image)
        values = np.empty((len(members), n_channels, *size), np.float32)
        flat = self._image.reshape(n_channels, -1)
        for row, member in enumerate(members):
            voxels = occlusions.voxels(member)
            clean = flat[:, voxels]
            flat[:, voxels] = occlusions.values(member)
            z, y, x = low[row]
            values[row] = self._image[:, z : z + size[0], y : y + size[1], x : x + size[2]]
            flat[:, voxels] = clean
        x = torch.from_numpy(values).to(self._clean.device, self._clean.dtype)
        if x.device.type == "cpu":
            x = x.contiguous(memory_format=torch.channels_last_3d)
        return Patch(x, low, boxes[..., 1])

    def _run(self, patch: Patch) -> Tensor:
        values: dict[fx.Node, Any] = {self._program.trace.input: patch}
        context = Context(self._constants, self.kept, values)
        for operation in self._program.operations:
            values[operation.node] = operation.run(context)
            for node in self._forget.get(operation.node, ()):
                del values[node]
        return values[self._program.output]

    def _run_clean(self) -> tuple[dict[tuple[fx.Node, float | None], Kept], np.ndarray]:
        margins, forms = _margins(self._program), self._program.forms
        kept: dict[tuple[fx.Node, float | None], Kept] = {}

        def keep(node: fx.Node, clean: Tensor) -> None:
            for fill, (before, after) in margins.get(node, {}).items():
                kept[node, fill] = Kept(forms[node].plain(clean), before, after, fill or 0.0)
                kept.setdefault((node, None), kept[node, fill])

        values = {self._program.trace.input: self._clean}
        context = Context(self._constants, {}, values)
        keep(self._program.trace.input, self._clean)
        for operation in self._program.operations:
            node = operation.node
            values[node] = context.call(node, {})
            keep(node, values[node])
            for used in self._forget.get(node, ()):
                del values[used]
        return kept, values[self._program.output][0].float().cpu().numpy()


def kept_bytes(program: Program, clean: Tensor) -> int:
    """Memory that the clean outputs would take, without running the network."""
    numbers = 0
    for node, of_node in _margins(program).items():
        form, shape = program.forms[node], shape_of(node)
        channels, grid = form.n_channels(shape), form.grid(shape)
        for before, after in of_node.values():
            numbers += channels * int((np.array(grid) + before + after).prod())
    return numbers * clean.itemsize


_Margins = dict[fx.Node, dict[float | None, tuple[np.ndarray, np.ndarray]]]


def _margins(program: Program) -> _Margins:
    """For each output that is to be kept: what fills the margin, and its widths.

    Who does not care what is in the margin gets the copy of somebody who does.
    """
    margins: _Margins = {}
    for operation in program.operations:
        for node, before, after, fill in operation.keeps():
            of_node = margins.setdefault(node, {})
            b, a = of_node.get(fill, (before, after))
            of_node[fill] = np.maximum(b, before), np.maximum(a, after)
    for of_node in margins.values():
        if None in of_node and len(of_node) > 1:
            b, a = of_node.pop(None)
            fill = next(iter(of_node))
            of_node[fill] = np.maximum(of_node[fill][0], b), np.maximum(of_node[fill][1], a)
    return margins


def _is_real(value: object) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()


def _last_readers(program: Program) -> dict[fx.Node, list[fx.Node]]:
    """For each node, the results that nothing needs after it."""
    last: dict[fx.Node, fx.Node] = {}
    for operation in program.operations:
        for node in operation.node.all_input_nodes:
            if node not in program.constants:
                last[node] = operation.node
    readers: dict[fx.Node, list[fx.Node]] = {}
    for node, reader in last.items():
        if node is not program.output:
            readers.setdefault(reader, []).append(node)
    return readers
