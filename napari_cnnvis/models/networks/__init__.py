"""Architectures: the built-in ones, those of other packages by name, and what may be made."""
