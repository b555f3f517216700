"""The panel "Scans"."""
