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
    "Record": "explain.record",
    "Volume": "scan.volume",
    "box_sensitivity": "explain.methods.box",
    "build_hierarchy": "ucm.build",
    "cam": "explain.methods.cam",
    "examine_checkpoint": "models.doctor",
    "grad_cam": "explain.methods.grad_cam",
    "grad_cam_plus_plus": "explain.methods.grad_cam_plus_plus",
    "hires_cam": "explain.methods.hires_cam",
    "layer_cam": "explain.methods.layer_cam",
    "load_model": "models.checkpoint",
    "methods": "explain.registry",
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
__all__ = sorted((*_PLACES, "explain"))  # noqa: PLE0605


def __getattr__(name: str) -> object:
    if name == "explain":  # a package, and a function as well
        return import_module(f"{__name__}.explain")
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
