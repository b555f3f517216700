"""The panel "Maps"."""
