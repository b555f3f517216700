"""What a network's outputs can mean; no torch is needed here."""

__all__ = ["OUTPUT_KINDS"]

#: by the word that files and options use
OUTPUT_KINDS = {
    "softmax": "one of several classes (softmax)",
    "sigmoid": "each present or absent (sigmoid)",
    "regression": "values (regression)",
    "probabilities": "probabilities of classes, taken as they are",
    "ordinal": "stages in order (ordinal)",
    "bins": "bins of a value such as age (expected value)",
}
