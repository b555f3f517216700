"""What a network says of a scan of which voxels were replaced."""
