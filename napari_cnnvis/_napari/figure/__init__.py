"""The panel "Figure"."""
