"""The panel "Trust"."""
