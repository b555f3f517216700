"""Maps on the input's own voxels, from gradients of the score."""
