"""Follows a tensor's place in the scan through each operation that torch carries out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from napari_cnnvis.models.tensor_axes import Place, joined, other, packed

__all__ = ["follow", "is_mixing"]

#: operations that may put entries into another order, of which nothing is known afterwards
_SHUFFLING = {
    *("gather", "take", "scatter", "index_put", "as_strided", "sort", "topk", "argsort", "randperm"),
    *("take_along_dim", "masked_select", "nonzero", "grid_sampler_3d", "bucketize", "cumsum", "kthvalue"),
    *("_fft_r2c", "_fft_c2r", "_fft_c2c", "multinomial", "embedding", "native_multi_head_attention"),
}  # fmt: skip
_MATRICES = {"mm", "bmm", "addmm", "baddbmm"}
_REDUCTIONS = {"mean", "sum", "amax", "amin", "max", "min", "median", "nanmedian", "logsumexp",
               "std", "var", "norm", "linalg_vector_norm", "prod", "argmax", "argmin", "any", "all",
               "mode", "var_mean", "std_mean", "nansum"}  # fmt: skip
_PADS = {
    *(f"{kind}_pad{n}d" for kind in ("reflection", "replication") for n in (1, 2, 3)),
    "constant_pad_nd",
}
_POOLS = {
    *(f"{kind}_pool{n}d{tail}" for kind in ("avg", "max") for n in (1, 2, 3) for tail in ("", "_with_indices")),
}  # fmt: skip
#: of any other size along the last axes
_RESIZING = ("adaptive_", "_adaptive_", "upsample_", "_upsample_")


def follow(
    name: str, args: Sequence[Any], output: Any, place_of: Callable[[Tensor], Place | None]
) -> list[Place | None]:
    """Places of what an operation gives: one for each tensor in `output`, None where unknown.

    Parameters
    ----------
    name : str
        As of ATen, without its overload and a trailing underscore.
    args : sequence
        Its arguments by position.
    output : Tensor, tuple or list
    place_of : callable
        The place of a tensor that went in.
    """
    outputs = [t for t in _listed(output) if isinstance(t, Tensor)]
    first = args[0] if args else None
    place = place_of(first) if isinstance(first, Tensor) else None
    if name in ("cat", "concat", "stack"):
        joined_place = _joined_along(name, args, place_of)
        return [joined_place] * len(outputs)
    if name in _MATRICES:
        return [_of_matrices(name, args, place_of)]
    if name == "convolution":
        return [_of_convolution(args, outputs[0], place)]
    if place is not None and isinstance(first, Tensor):
        special = _SPECIAL.get(name)
        if special is not None:
            return special(place, first, args, outputs)
        if name in _REDUCTIONS:
            return [_reduced(place, first, args, t) for t in outputs]
        if name in _PADS:
            return [_padded(place, args[1])]
        if name in _POOLS:
            return [_pooled(name, place, args, t) for t in outputs]
        if name.startswith(_RESIZING):
            return [_resized(place, t) for t in outputs]
    if name in _SHUFFLING:
        return [None] * len(outputs)
    given = [(t, p) for t in _tensors(args) if (p := place_of(t)) is not None and p.counts]
    return [_as_given(given, t) for t in outputs]


def is_mixing(name: str, args: Sequence[Any], place_of: Callable[[Tensor], Place | None]) -> bool:
    """Whether an operation adds up over cells, as attention and pools do, or flattens them away."""
    tensors = [t for t in args[:3] if isinstance(t, Tensor)]
    if name in _MATRICES and len(tensors) >= 2:
        places = [place_of(t) for t in tensors[-2:]]
        return any(
            p is not None and any(f.counts for f in p.axes[dim])
            for p, dim in zip(places, (-1, -2), strict=True)
        )
    return name.startswith(("_scaled_dot", "_native_multi", "_transformer", "convolution")) or (
        name in _REDUCTIONS or "pool" in name
    )


def _listed(output: Any) -> Sequence[Any]:
    return output if isinstance(output, tuple | list) else [output]


def _tensors(args: Any) -> Any:
    for arg in args:
        if isinstance(arg, Tensor):
            yield arg
        elif isinstance(arg, tuple | list):
            yield from _tensors(arg)


def _dim(tensor_ndim: int, dim: int) -> int:
    return dim + tensor_ndim if dim < 0 else dim


# ----- views


def _view(place: Place, x: Tensor, args: Any, outputs: Any) -> list[Place | None]:
    return [place.viewed(t.shape) for t in outputs]


def _permute(place: Place, x: Tensor, args: Any, outputs: Any) -> list[Place | None]:
    return [place.permuted([_dim(x.ndim, d) for d in args[1]])]


def _transpose(place: Place, x: Tensor, args: Any, outputs: Any) -> list[Place | None]:
    a, b = (_dim(x.ndim, d) for d in (args[1:3] if len(args) > 2 else (0, x.ndim - 1)))
    order = list(range(x.ndim))
    order[a], order[b] = b, a
    return [place.permuted(order)]


def _unsqueeze(place: Place, x: Tensor, args: Any, outputs: Any) -> list[Place | None]:
    dim = _dim(x.ndim + 1, args[1])
    return [replace(place, axes=(*place.axes[:dim], (), *place.axes[dim:]))]


def _select(place: Place, x: Tensor, args: Any, outputs: Any) -> list[Place | None]:
    dim = _dim(x.ndim, args[1])
    return [replace(place, axes=(*place.axes[:dim], *place.axes[dim + 1 :]))]


def _unbind(place: Place, x: Tensor, args: Any, outputs: Any) -> list[Place | None]:
    return _select(place, x, (x, args[1] if len(args) > 1 else 0), outputs) * len(outputs)


def _slice(place: Place, x: Tensor, args: Any, outputs: Any) -> list[Place | None]:
    given = [*args[1:], None, None, None, None][:4]
    dim = _dim(x.ndim, given[0] or 0)
    start, stop, step = slice(given[1], given[2], given[3] or 1).indices(x.shape[dim])
    return [place.taken(dim, start, stop, step) if stop > start else None]


def _split(place: Place, x: Tensor, args: Any, outputs: Any) -> list[Place | None]:
    dim = _dim(x.ndim, args[2] if len(args) > 2 else 0)
    places, start = [], 0
    for t in outputs:
        places.append(place.taken(dim, start, start + t.shape[dim], 1) if t.shape[dim] else None)
        start += t.shape[dim]
    return places


def _expand(place: Place, x: Tensor, args: Any, outputs: Any) -> list[Place | None]:
    (out,) = outputs
    axes = [(), *[()] * (out.ndim - x.ndim - 1), *place.axes][-out.ndim :]
    lengths = [1] * (out.ndim - x.ndim) + list(x.shape)
    kept = (a if n == m else other(m) for a, n, m in zip(axes, lengths, out.shape, strict=True))
    return [replace(place, axes=tuple(kept))]


def _repeat(place: Place, x: Tensor, args: Any, outputs: Any) -> list[Place | None]:
    return _expand(place, x, args, outputs)


def _unfold(place: Place, x: Tensor, args: Any, outputs: Any) -> list[Place | None]:
    (out,) = outputs
    dim = _dim(x.ndim, args[1])
    after = place.windowed(dim, out.shape[dim], (args[2], args[3], 0, 1))
    return [replace(after, axes=(*after.axes, other(out.shape[-1])))]


def _roll(place: Place, x: Tensor, args: Any, outputs: Any) -> list[Place | None]:
    dims = args[2] if len(args) > 2 else ()
    if not dims:
        return [None]
    for shift, dim in zip(args[1], dims, strict=True):
        place = place.rolled_by(_dim(x.ndim, dim), shift)
    return [place]


def _flip(place: Place, x: Tensor, args: Any, outputs: Any) -> list[Place | None]:
    for dim in args[1]:
        place = place.flipped_along(_dim(x.ndim, dim))
    return [place]


def _index(place: Place, x: Tensor, args: Any, outputs: Any) -> list[Place | None]:
    """Entries by number: nothing is known of the axes that they are taken along."""
    (out,) = outputs
    indices = list(args[1])
    used = [d for d, index in enumerate(indices) if index is not None]
    if len(used) != 1 or indices[used[0]].ndim != 1:
        return [None]
    return [place.without(used[0], out.shape[used[0]])]


def _index_select(place: Place, x: Tensor, args: Any, outputs: Any) -> list[Place | None]:
    dim = _dim(x.ndim, args[1])
    return [place.without(dim, outputs[0].shape[dim])]


_SPECIAL: dict[str, Callable[..., list[Place | None]]] = {
    **dict.fromkeys(("view", "_unsafe_view", "_reshape_alias", "reshape"), _view),
    **dict.fromkeys(("squeeze",), _view),
    **dict.fromkeys(("transpose", "t", "numpy_T"), _transpose),
    **dict.fromkeys(("split", "split_with_sizes", "unsafe_split", "unsafe_chunk"), _split),
    "permute": _permute,
    "unsqueeze": _unsqueeze,
    "select": _select,
    "unbind": _unbind,
    "slice": _slice,
    "expand": _expand,
    "repeat": _repeat,
    "unfold": _unfold,
    "roll": _roll,
    "flip": _flip,
    "index": _index,
    "index_select": _index_select,
}


# ----- operations that compute


def _reduced(place: Place, x: Tensor, args: Sequence[Any], out: Tensor) -> Place | None:
    """Of a mean, sum or maximum over some axes, which are of length 1 then, or gone."""
    if out.ndim == x.ndim:
        kept = (a if n == m else () for a, n, m in zip(place.axes, x.shape, out.shape, strict=True))
        return replace(place, axes=tuple(kept))
    dims = next((a for a in args[1:3] if isinstance(a, list | int) and not isinstance(a, bool)), [])
    gone = {_dim(x.ndim, d) for d in (dims if isinstance(dims, list) else [dims])}
    if out.ndim != x.ndim - len(gone):
        return None
    return replace(place, axes=tuple(a for d, a in enumerate(place.axes) if d not in gone))


def _padded(place: Place, pad: Sequence[int]) -> Place:
    for i in range(len(pad) // 2):
        place = place.padded(len(place.axes) - 1 - i, pad[2 * i], pad[2 * i + 1])
    return place


def _windows(place: Place, out: Tensor, n: int, windows: list[Any] | None) -> Place:
    for i in range(n):
        dim = out.ndim - n + i
        place = place.windowed(dim, out.shape[dim], None if windows is None else windows[i])
    return place


def _pooled(name: str, place: Place, args: Sequence[Any], out: Tensor) -> Place:
    n = int(name.partition("pool")[2][0])
    values = [*args[1:], *[None] * 4]
    stride = values[1] if values[1] not in (None, []) else values[0]
    dilation = values[3] if name.startswith("max") else 1
    given = (_each(v, n) for v in (values[0], stride, values[2] or 0, dilation or 1))
    return _windows(place, out, n, list(zip(*given, strict=True)))


def _resized(place: Place, out: Tensor) -> Place:
    n = out.ndim - 2
    return _windows(place, out, n, None)


def _of_convolution(args: Sequence[Any], out: Tensor, place: Place | None) -> Place | None:
    n = out.ndim - 2
    if place is None or not place.counts:
        # whatever has been done to the scan: a 3D convolution has its axes in this order
        return Place.with_channels_first(out.shape, None) if n == 3 else None
    first = place.axes[0] if args[0].shape[0] == out.shape[0] else other(out.shape[0])
    place = replace(place, axes=(first, other(out.shape[1]), *place.axes[2:]))
    if args[6]:  # transposed: cells are spread out, not gathered
        return replace(_windows(place, out, n, None), grid=None)
    given = (_each(v, n) for v in (list(args[1].shape[2:]), args[3], args[4], args[5]))
    return _windows(place, out, n, list(zip(*given, strict=True)))


def _of_matrices(name: str, args: Sequence[Any], place_of: Callable[..., Any]) -> Place | None:
    a, b = args[-2:] if name in ("mm", "bmm") else args[1:3]
    one, two = place_of(a), place_of(b)
    rows = one if one is not None and one.counts else None
    columns = two if two is not None and two.counts else None
    source = rows or columns
    if source is None:
        return None
    lead = source.axes[:-2]
    left = rows.axes[-2] if rows else other(a.shape[-2])
    right = columns.axes[-1] if columns else other(b.shape[-1])
    return replace(source, axes=(*lead, left, right))


def _joined_along(name: str, args: Sequence[Any], place_of: Callable[..., Any]) -> Place | None:
    tensors = [t for t in args[0] if t.numel()]
    known = [(t, p) for t in tensors if (p := place_of(t)) is not None and p.counts]
    if not known:
        return None
    dim, (first, place) = (args[1] if len(args) > 1 else 0), known[0]
    if name == "stack":
        dim = _dim(first.ndim + 1, dim)
        place = replace(place, axes=(*place.axes[:dim], other(len(tensors)), *place.axes[dim:]))
        return joined(place, [p for _, p in known[1:]])
    dim = _dim(first.ndim, dim)
    total = sum(t.shape[dim] for t in tensors)
    with_cells = [(t, p) for t, p in known if any(f.counts for f in p.axes[dim])]
    if not with_cells:
        return joined(place.with_axis(dim, other(total)), [p for _, p in known[1:]])
    if len(with_cells) > 1:
        return place.without(dim, total)
    (mine, place), before = with_cells[0], 0
    for t in tensors:
        if t is mine:
            break
        before += t.shape[dim]
    return place.with_axis(dim, packed(place.axes[dim], before, total))


def _as_given(given: list[tuple[Tensor, Place]], out: Tensor) -> Place | None:
    """Of an operation on each entry, or one that is not known: as the tensor of the same shape."""
    same = [p for t, p in given if t.shape == out.shape]
    if same:
        most = max(same, key=lambda p: sum(f.counts for axis in p.axes for f in axis))
        return joined(most, [p for p in same if p is not most])
    broadcast = [(t, p) for t, p in given if t.ndim <= out.ndim]
    for t, p in broadcast:
        axes = [*[()] * (out.ndim - t.ndim), *p.axes]
        lengths = [1] * (out.ndim - t.ndim) + list(t.shape)
        if all(n in (1, m) for n, m in zip(lengths, out.shape, strict=True)):
            wide = (
                a if n == m else other(m) for a, n, m in zip(axes, lengths, out.shape, strict=True)
            )
            return replace(p, axes=tuple(wide))
    for t, p in broadcast:
        if t.ndim == out.ndim:
            changed = [d for d in range(t.ndim) if t.shape[d] != out.shape[d]]
            place = p
            for d in changed:
                place = place.windowed(d, out.shape[d], None)
            return place
    return None


def _each(value: Any, n: int) -> tuple[int, ...]:
    values = (value,) if isinstance(value, int) else tuple(value)
    return values * n if len(values) == 1 else values
