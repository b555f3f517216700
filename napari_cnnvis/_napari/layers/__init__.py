"""What a layer of the viewer holds: a scan, a map, the regions of a hierarchy."""
