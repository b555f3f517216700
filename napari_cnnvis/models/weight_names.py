"""The names that weights have in a file, and those that a network has for them."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor

__all__ = [
    "bodies",
    "is_counter",
    "named",
    "renamed",
    "without_common_prefix",
    "without_wrappers",
]

#: parts of names that stand for a wrapper around a module: of torch.compile, of FSDP and its
#: checkpointing, of DeepSpeed and of Lightning's Fabric
_WRAPPERS = frozenset(
    ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module")
)
#: what DataParallel puts there, which may as well be a module's own name
_PARALLEL = frozenset(("module",))
#: prefixes of all names that trainers put there
_PREFIXES = ("module.", "model.", "net.")


def is_counter(name: str) -> bool:
    """Whether a tensor counts something in training, such as the batches that a BatchNorm saw."""
    return name.endswith("num_batches_tracked") or name == "n_averaged"


def named(names: tuple[str, ...]) -> str:
    """A list of names in few words: what they all start with, or the first three."""
    if len(names) == 1:
        return names[0]
    parts = list(
        itertools.takewhile(
            lambda p: len(set(p)) == 1, zip(*(n.split(".") for n in names), strict=False)
        )
    )
    if parts:
        return f"all start with '{'.'.join(part[0] for part in parts)}.'"
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def without_wrappers(name: str, wrappers: frozenset[str] = _WRAPPERS) -> str:
    """A name without the parts that stand for wrappers, wherever in it they are."""
    return ".".join(part for part in name.split(".") if part not in wrappers)


def without_common_prefix(
    state: Mapping[str, Tensor],
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Weights without wrappers in their names, and without what a trainer put before all of them.

    Counters without a prefix, as in files of averaged weights, are left out then.

    Returns
    -------
    (dict, tuple of str)
        And notes on what was removed.
    """
    plain = _mapped(state, without_wrappers)
    notes: tuple[str, ...] = ()
    if plain is None or list(plain) == list(state):
        plain = dict(state)
    else:
        notes = (_said_of_wrappers(state, _WRAPPERS),)
    weights = [name for name in plain if name != "n_averaged"]
    while prefix := next((p for p in _PREFIXES if all(k.startswith(p) for k in weights)), None):
        plain = {k.removeprefix(prefix): plain[k] for k in weights}
        weights = list(plain)
        notes += (f"prefix '{prefix}' removed from the names",)
    return plain, notes


def bodies(state: Mapping[str, Tensor]) -> Iterator[Mapping[str, Tensor]]:
    """Weights as they are, then those alone that lie behind the prefix that most names have, and so on.

    Examples
    --------
    >>> import torch
    >>> one = torch.ones(1)
    >>> [list(body) for body in bodies({"net.a": one, "net.b": one, "loss.weight": one})]
    [['net.a', 'net.b', 'loss.weight'], ['a', 'b']]
    """
    while state:
        yield state
        firsts = Counter(name.partition(".")[0] for name in state if "." in name)
        if not firsts:
            return
        first, count = firsts.most_common(1)[0]
        if 2 * count < len(state):
            return
        front = f"{first}."
        state = {k.removeprefix(front): v for k, v in state.items() if k.startswith(front)}


def renamed(
    state: Mapping[str, Tensor], expected: Sequence[str]
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Weights under a network's names, if wrappers or a prefix on either side is all that differs.

    What a file holds beside the network under another prefix (a loss, a metric) is left out.

    Parameters
    ----------
    state : mapping of str to Tensor
    expected : sequence of str
        The network's names, counters included.

    Returns
    -------
    (dict, tuple of str)
        `state` as it is if nothing helps; and notes on what was done.
    """
    needed = {name for name in expected if not is_counter(name)}
    if not needed or needed <= set(state):
        return dict(state), ()
    for wrappers in (frozenset[str](), _WRAPPERS, _WRAPPERS | _PARALLEL):

        def plain(name: str, wrappers: frozenset[str] = wrappers) -> str:
            return without_wrappers(name, wrappers)

        own = _mapped({name: name for name in expected}, plain)
        given = _mapped(state, plain)
        if own is None or given is None:
            continue  # two names would become one
        found = _behind_prefix(given, [name for name in own if not is_counter(name)])
        if found is None:
            continue
        inside, notes = found
        changed = [name for name in state if plain(name) != name]
        if changed:
            notes = (_said_of_wrappers(state, wrappers), *notes)
        return {own.get(name, name): tensor for name, tensor in inside.items()}, notes
    return dict(state), ()


def _behind_prefix(
    state: dict[str, Tensor], needed: list[str]
) -> tuple[dict[str, Tensor], tuple[str, ...]] | None:
    """All of the needed names, found as they are, with a prefix in front, or without one of theirs."""
    if set(needed) <= set(state):
        return state, ()
    own = needed[0]
    while own := own.rpartition(".")[0]:  # a prefix that the network has and the file has not
        if {f"{own}.{k}" for k in state if not is_counter(k)} == set(needed):
            return {f"{own}.{k}": v for k, v in state.items()}, ()
    found: Counter[str] = Counter()
    for key in state:
        for name in (needed[0], needed[-1], needed[len(needed) // 2]):
            if key.endswith(f".{name}"):
                found[key.removesuffix(name)] += 1
    for prefix, _ in found.most_common():
        inside = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
        if set(needed) <= set(inside):
            others = tuple(k for k in state if not k.startswith(prefix))
            notes = [f"prefix '{prefix}' removed from the names"]
            if others:
                notes.append(
                    f"{len(others)} tensors that are not the network's left out ({named(others)})"
                )
            return inside, tuple(notes)
    return None


def _mapped(values: Mapping[str, Any], plain: Callable[[str], str]) -> dict[str, Any] | None:
    """The same under other names, or None if two names become one."""
    result = {plain(name): value for name, value in values.items()}
    return result if len(result) == len(values) else None


def _said_of_wrappers(names: Iterable[str], wrappers: frozenset[str]) -> str:
    met = {f"'{part}'": None for name in names for part in name.split(".") if part in wrappers}
    return f"{', '.join(met)} removed from inside the names"
