"""Attribution (+ masks, Model) -> scores. The names below are loaded when they are first used."""

from importlib import import_module

_PLACES = {
    "clusters": "clustering",
    "find_peaks": "peaks",
    "localise": "localisation",
    "roc_auc": "localisation",
    "roi_table": "roi_tables",
    "trust_report": "trust.report",
}
__all__ = sorted(_PLACES)  # noqa: PLE0605


def __getattr__(name: str) -> object:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
