"""Weights of one network that lie in several files, or in several entries of one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from napari_cnnvis.models.formats.checkpoint_file import CheckpointFile
from napari_cnnvis.models.weight_names import is_counter, without_wrappers
from napari_cnnvis.models.weights import WeightMatch, match_weights

__all__ = ["joined", "match_file"]

State = Mapping[str, Tensor]
#: so many entries of a file are tried one by one
_MOST_ENTRIES = 50


def match_file(module: nn.Module, file: CheckpointFile) -> WeightMatch:
    """Compare a checkpoint with what a network needs.

    Of several sets of weights in it the first that fits is taken, else all of them together.
    Those of several files have to fit together.
    """
    if file.parts:
        placed = joined(module, file.parts)
        if placed is None:
            return match_weights(module, file.state)
        said = tuple(
            f"'{where}' of the network from {name}" if where else f"weights from {name}"
            for name, where, _ in placed
        )
        return _noted(match_weights(module, _union(placed)), *said)
    first = match_weights(module, file.state)
    if first.fits:
        return first
    for place, state in list(file.others.items())[:_MOST_ENTRIES]:
        match = match_weights(module, dict(state))
        if match.fits:
            return _noted(match, f"only the weights of its entry '{place or 'itself'}' fit")
    together = {"": file.state, **file.others}
    placed = joined(module, together, False) if 1 < len(together) <= _MOST_ENTRIES else None
    if placed is not None:
        match = match_weights(module, _union(placed))
        return _noted(match, "weights of several entries put together")
    return _of_part(module, file.state) or first


def _of_part(module: nn.Module, state: State) -> WeightMatch | None:
    """The weights of a part of the network, with what to do about the rest; None if they are none."""
    where, placed = next(_places("", state, _tensors(module)), ("", {}))
    if not where:
        return None
    advice = (
        f"The file holds the network's '{where}' only: give the file with the rest as well, "
        "load_model([file, other_file]), --more-files, or the panel's field 'Further files'."
    )
    return replace(match_weights(module, placed), advice=advice)


def joined(
    module: nn.Module, parts: Mapping[str, State], use_all: bool = True
) -> tuple[tuple[str, str, dict[str, Tensor]], ...] | None:
    """Where in a network each of several sets of weights belongs, if together they are all of it.

    Parameters
    ----------
    module : nn.Module
    parts : mapping
        By name, such as that of a file: "backbone" is looked for at `module.backbone` first.
    use_all : bool
        Each of them has to be a part of the network.

    Returns
    -------
    tuple of (name, where, state), or None
        `where` is the name of the part of the network; the weights have the network's names.

    Examples
    --------
    >>> net = nn.Sequential()
    >>> net.body, net.head = nn.Conv3d(1, 2, 3), nn.Linear(2, 2)
    >>> files = {"best": net.head.state_dict(), "encoder": net.body.state_dict()}
    >>> [(name, where) for name, where, _ in joined(net, files)]
    [('best', 'head'), ('encoder', 'body')]
    """
    expected = _tensors(module)
    needed = frozenset(k for k in expected if not is_counter(k))
    choices = []
    for name, part in parts.items():
        found = [(name, where, state) for where, state in _places(name, part, expected)]
        if found:
            choices.append(found)
        elif use_all:
            return None
    return _cover(choices, needed, use_all)


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    return {k: v for k, v in module.state_dict().items() if isinstance(v, Tensor)}


def _places(name: str, part: State, expected: State) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Where in the network a set of weights fits by names and shapes, the likeliest first."""
    plain = {without_wrappers(key): key for key in expected}
    inside = {""} | {
        key[:at] for key in plain for at, character in enumerate(key) if character == "."
    }
    own = {without_wrappers(key): tensor for key, tensor in part.items()}
    found: dict[frozenset[str], tuple[str, dict[str, Tensor]]] = {}
    while own:
        weights = [key for key in own if not is_counter(key)]
        for where in sorted(inside, key=lambda w: (w.count("."), w)):
            front = f"{where}." if where else ""
            if weights and all(
                front + key in plain and _same_shape(own[key], expected[plain[front + key]])
                for key in weights
            ):
                state = {plain[front + k]: t for k, t in own.items() if front + k in plain}
                found.setdefault(frozenset(state), (where, state))
        firsts = {key.partition(".")[0] for key in own}
        if len(firsts) > 1 or not all("." in key for key in own):
            break
        own = {key.partition(".")[2]: tensor for key, tensor in own.items()}
    yield from sorted(found.values(), key=lambda f: not f[0] or f[0].lower() not in name.lower())


def _same_shape(given: Tensor, needed: Tensor) -> bool:
    return is_lazy(needed) or given.shape == needed.shape


def _cover(
    choices: list[list[tuple[str, str, dict[str, Tensor]]]], needed: frozenset[str], use_all: bool
) -> tuple[tuple[str, str, dict[str, Tensor]], ...] | None:
    """One choice of each, so that together they are all that is needed and nothing twice."""
    if not choices:
        return None if needed else ()
    for choice in choices[0]:
        names = {k for k in choice[2] if not is_counter(k)}
        if names <= needed:
            rest = _cover(choices[1:], needed - names, use_all)
            if rest is not None:
                return choice, *rest
    return None if use_all else _cover(choices[1:], needed, use_all)


def _union(placed: tuple[tuple[str, str, dict[str, Tensor]], ...]) -> dict[str, Tensor]:
    return {key: tensor for _, _, state in placed for key, tensor in state.items()}


def _noted(match: WeightMatch, *notes: str) -> WeightMatch:
    return replace(match, notes=(*match.notes, *notes))
