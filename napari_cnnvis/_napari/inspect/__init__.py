"""The panel "Inspect"."""
