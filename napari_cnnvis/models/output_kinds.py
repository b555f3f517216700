"""What a network's outputs can mean; no torch is needed here."""

__all__ = ["OUTPUT_KINDS"]

#: one of several classes; labels that are there or not; values
OUTPUT_KINDS = {
    "softmax": "one of several classes (softmax)",
    "sigmoid": "each present or absent (sigmoid)",
    "regression": "values (regression)",
}
