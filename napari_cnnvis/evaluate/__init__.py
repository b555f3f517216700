"""Attribution (+ masks, Model) -> scores. The names below are loaded when they are first used."""

import sys
from importlib import import_module
from types import ModuleType

_PLACES = {
    "clusters": "clusters",
    "find_peaks": "peaks",
    "localise": "localisation",
    "read_rois": "rois",
    "roc_auc": "localisation",
    "roi_table": "roi_table",
    "trust_report": "trust",
}
__all__ = sorted(_PLACES)  # noqa: PLE0605


class _Package(ModuleType):
    def __setattr__(self, name: str, value: object) -> None:
        # `clusters` and `roi_table` also name modules, which imports would put in the functions' place
        if name not in _PLACES or not isinstance(value, ModuleType):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> object:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
