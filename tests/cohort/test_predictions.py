"""What a prediction is called, and whether it is right."""

from types import SimpleNamespace

import numpy as np
import pytest

from napari_cnnvis.cohort.predictions import Prediction, agrees, described, verdict
from napari_cnnvis.models.outputs import Outputs

NAMES = ("CN", "AD")


def says(values, kind="softmax", names=NAMES, n=2):
    described_by_model = [("age", "71.3")]
    model = SimpleNamespace(
        outputs=Outputs(kind, n), class_names=names, described=lambda values: described_by_model
    )
    return Prediction(np.array(values, np.float32)), model


@pytest.mark.parametrize(
    ("label", "index", "right"),
    [
        ("AD", 1, True),
        (" ad ", 1, True),
        ("CN", 1, False),
        ("1", 1, True),
        ("1.0", 1, True),
        ("0", 1, False),
        ("", 1, None),
        ("MCI", 1, None),
        ("2", 1, None),
        ("-1", 1, None),
        ("nan", 1, None),
        ("0.5", 1, None),
    ],
)
def test_labels_are_compared_by_name_then_by_index(label, index, right):
    assert agrees(label, index, NAMES) is right


def test_classes_that_are_called_by_numbers_go_by_name():
    assert agrees("1", 0, ("1", "0")) is True
    assert agrees("1", 1, ("1", "0")) is False


@pytest.mark.parametrize(
    ("values", "kind", "n", "text", "right"),
    [
        ([0.07, 0.93], "softmax", 2, "AD 93%", True),
        ([0.001, 0.999], "softmax", 2, "AD > 99%", True),
        ([0.0, 1.0], "softmax", 2, "AD 100%", True),
        ([0.7, 0.3], "sigmoid", 1, "CN 70%", False),
        ([0.7, 0.8], "sigmoid", 2, "CN 70%, AD 80%", None),
        ([0.2, 0.3], "sigmoid", 2, "none", None),
        ([71.3], "regression", 1, "age 71.3", None),
    ],
)
def test_every_kind_of_output(values, kind, n, text, right):
    prediction, model = says(values, kind, n=n)
    assert described(prediction, model) == text
    assert verdict(prediction, "AD", model) is right
    assert verdict(None, "AD", model) is None
