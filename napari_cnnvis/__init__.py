"""See in 3D where a convolutional network looks in a brain scan.

The names below are loaded when they are first used, so that importing the
package pulls in neither torch nor Qt.
"""

from importlib import import_module

_PLACES = {
    "Attribution": "explain.attribution",
    "CheckpointReport": "models.doctor",
    "CnnVisError": "errors",
    "ExplainRequest": "explain.request",
    "FigureSpec": "figure.spec",
    "Hierarchy": "ucm.hierarchy",
    "InputSpec": "scan.conform",
    "Model": "models.model",
    "Progress": "progress",
    "Volume": "scan.volume",
    "box_sensitivity": "explain.methods.box",
    "build_hierarchy": "ucm.build",
    "cam": "explain.methods.cam",
    "examine_checkpoint": "models.doctor",
    "grad_cam": "explain.methods.gradient",
    "grad_cam_plus_plus": "explain.methods.gradient",
    "hires_cam": "explain.methods.gradient",
    "layer_cam": "explain.methods.gradient",
    "load_model": "models.checkpoint",
    "localise": "evaluate.localisation",
    "read_figure": "figure.record",
    "read_rois": "atlas.rois",
    "read_volume": "scan.files",
    "remap": "explain.remap",
    "roc_auc": "evaluate.localisation",
    "save_model": "models.checkpoint",
    "sensitivity": "explain.methods.sensitivity",
    "trust_report": "evaluate.trust.report",
    "write_figure": "figure.files",
    "write_volume": "scan.files",
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
