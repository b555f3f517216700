"""The field of each kind of parameter."""

from dataclasses import dataclass

from napari_cnnvis._napari.explain.parameter_fields import field_of
from napari_cnnvis.explain.parameter import parameter, parameters_of


@dataclass(frozen=True)
class _Settings:
    other: str | None = parameter(None, "Other", "Another class.", kind="class", none="nobody")


def test_a_class_is_chosen_among_those_of_the_network(qtbot):
    field = field_of(parameters_of(_Settings)["other"], None)
    qtbot.addWidget(field.widget)
    assert not field.needed
    assert field.value is None
    field.show_classes(["AD", "MCI", "NC"])
    field.show("MCI")
    assert field.needed
    assert field.value == "MCI"
    field.show_classes(["MCI", "NC"])  # another network that knows it too
    assert field.value == "MCI"
    field.show_classes(["A", "B"])
    assert field.value is None
