"""Whether a map is true: tests, findings, a verdict."""
