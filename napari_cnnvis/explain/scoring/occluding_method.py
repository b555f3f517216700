"""What the methods that replace voxels by a baseline share."""

from __future__ import annotations

from typing import Any

from napari_cnnvis.explain.method import Method

__all__ = ["ON_BASELINES", "OccludingMethod"]

ON_BASELINES = (
    "What the map says depends on what voxels are replaced by. Zero looks like CSF on T1, so that it "
    "can turn a map of atrophy upside down. Run several baselines and look at how much they disagree."
)


class OccludingMethod(Method):
    """Keeps the scores of all regions, so that other views need no other run."""

    occludes = True

    def view(self, target: int | str, outcome: Any, ran: Method, ran_target: int | str) -> Any:
        from napari_cnnvis.explain.remap import remapped

        return remapped(outcome, self, target) if type(ran) is type(self) else None
