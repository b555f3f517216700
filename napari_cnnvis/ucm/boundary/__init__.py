"""How strong a boundary between voxels is."""
