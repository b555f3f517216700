"""What can be chosen when supervoxels are built; without heavy imports."""

from __future__ import annotations

__all__ = ["BOUNDARIES", "FINEST"]

#: how strong a boundary between voxels is
BOUNDARIES = ("gradient", "gpb")
#: number of regions on the finest level that sensitivity uses, where nothing else is asked for
FINEST = 300
