"""Many scans: find them, run a model and a method on all, keep the results on disk."""
