"""The panel "Explain CNN"."""
