"""A checkpoint file of any kind -> CheckpointFile; one module a format."""
