"""Checkpoint file -> Model: architectures, file formats, what layers a network has."""
