"""The panel "Supervoxels"."""
