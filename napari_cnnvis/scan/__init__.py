"""A scan: files, the volume in space, what a model's grid makes of it, its head."""
