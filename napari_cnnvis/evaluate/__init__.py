"""Attribution (+ masks, Model) -> scores."""

from napari_cnnvis.evaluate.localisation import roc_auc

__all__ = ["roc_auc"]
