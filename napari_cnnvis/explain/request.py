"""What to run: a method with its parameters, and the class to explain; no torch is needed here."""

from __future__ import annotations

from typing import Any

from napari_cnnvis.errors import MethodError
from napari_cnnvis.explain.method import Method
from napari_cnnvis.explain.registry import method_of

__all__ = ["ExplainRequest"]


class ExplainRequest:
    """A method with the values of its parameters, and the class to explain. It does not change.

    Parameters
    ----------
    method : str or Method
        A key of `methods`, or a method with its parameters.
    target : int or str
        The class to explain, by index or name.
    **parameters
        Those of the method that shall differ from their defaults; see
        ``methods()[key].parameters()``.

    Attributes
    ----------
    how : Method
        The method with all its parameters.

    Raises
    ------
    MethodError
        If there is no such method, or it has no such parameter, or not this value.

    Examples
    --------
    >>> import napari_cnnvis as cv
    >>> request = cv.ExplainRequest("grad-cam", "AD", layer="conv4c")
    >>> request.method, request.how.layer, request.how.relu
    ('grad-cam', 'conv4c', True)
    """

    __slots__ = ("how", "target")
    how: Method
    target: int | str

    def __init__(self, method: str | Method, target: int | str, **parameters: Any) -> None:
        if isinstance(method, Method):
            kind, how = type(method), method
        else:
            kind = method_of(method)
            how = None
        unknown = [name for name in parameters if name not in kind.parameters()]
        if unknown:
            known = ", ".join(kind.parameters()) or "none"
            raise MethodError(
                f"{kind.title} has no parameter '{unknown[0]}'; its parameters are: {known}."
            )
        how = kind(**parameters) if how is None else how.replaced(**parameters)
        object.__setattr__(self, "how", how)
        object.__setattr__(self, "target", target)

    @property
    def method(self) -> str:
        """The method's key."""
        return self.how.key

    @property
    def title(self) -> str:
        """What the method is called."""
        return self.how.title

    def replaced(self, target: int | str | None = None, **parameters: Any) -> ExplainRequest:
        """The same request of another class, or with other values of some parameters."""
        return ExplainRequest(self.how, self.target if target is None else target, **parameters)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a request does not change; use replaced({name}=...)")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ExplainRequest):
            return NotImplemented
        return (self.how, self.target) == (other.how, other.target)

    def __hash__(self) -> int:
        return hash((self.how, self.target))

    def __repr__(self) -> str:
        return f"ExplainRequest({self.how!r}, {self.target!r})"
