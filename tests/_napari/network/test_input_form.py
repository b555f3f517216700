import pytest

from napari_cnnvis._napari.network.input_form import InputForm
from napari_cnnvis.errors import VolumeError
from napari_cnnvis.scan.conform import InputSpec

SPECS = [
    InputSpec(),
    InputSpec(shape=(96, 112, 96), spacing=(1, 1.5, 2), orientation="LPS", intensity="z-score"),
    InputSpec(shape=(64, 64, 64), resize=True, intensity="range", channels=3),
    InputSpec(window=(32, 40, 48), overlap=0.25, intensity="none", orientation="IRP"),
    InputSpec(steps="Orientation('RAS'), Spacing((1, 1, 2)), ScaleIntensity(minv=-1)"),
    InputSpec(steps="ScaleIntensity(), Resize((64, 64, 48), mode='trilinear')"),
    InputSpec((32, 40, 48), steps="NormalizeIntensity(nonzero=True)", intensity="clip -3 3"),
    InputSpec(steps="ResizeWithPadOrCrop((64, 64, 48))", window=(32, 32, 32)),
]


@pytest.fixture
def form(qtbot):
    form = InputForm()
    qtbot.addWidget(form)
    form.show()
    return form


@pytest.mark.parametrize("spec", SPECS)
def test_a_specification_comes_back_as_it_was(form, spec):
    form.show_spec(spec)
    assert form.spec() == spec


def test_showing_emits_nothing_and_editing_does(qtbot, form):
    with qtbot.assertNotEmitted(form.changed):
        form.show_spec(SPECS[1])
    with qtbot.waitSignal(form.changed):
        form.intensity.setCurrentIndex(form.intensity.findData("none"))
    assert form.spec().intensity == "none"


def test_only_the_fields_that_count_are_shown(form):
    form.show_spec(SPECS[0])
    assert not form.shape.isVisible()
    assert not form.overlap.isVisible()
    assert not form.spacing.isVisible()
    form.show_spec(SPECS[3])
    assert form.shape.isVisible()
    assert form.overlap.isVisible()


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("96", (96, 96, 96)),
        ("96 112 96", (96, 112, 96)),
        ("1x2x3", (1, 2, 3)),
        ("4,5,6", (4, 5, 6)),
    ],
)
def test_numbers_are_read_as_people_write_them(form, text, numbers):
    form.show_spec(SPECS[1])
    form.shape.setText(text)
    assert form.spec().shape == numbers


@pytest.mark.parametrize("text", ["", "a", "1 2", "0", "-3", "1.5", "1 2 3 4"])
def test_other_text_is_a_plain_error(form, text, plain):
    form.show_spec(SPECS[1])
    form.shape.setText(text)
    with pytest.raises(VolumeError) as caught:
        form.spec()
    assert "three positive numbers" in plain(caught.value)


def test_an_orientation_that_is_none_is_a_plain_error(form, plain):
    form.orientation.setCurrentText("ABC")
    with pytest.raises(VolumeError) as caught:
        form.spec()
    plain(caught.value)


def type_steps(form, text):
    form.steps.setText(text)
    form.steps.textEdited.emit(text)


def test_steps_that_are_typed_take_the_place_of_the_other_fields(qtbot, form):
    form.show_spec(SPECS[1])
    with qtbot.waitSignal(form.changed):
        type_steps(form, "Spacing((2, 2, 2)), ScaleIntensity(), Resize((24, 24, 24))")
    assert not form.orientation.isVisible()
    assert not form.voxels.isVisible()
    assert not form.spacing.isVisible()
    form.size.setCurrentIndex(form.size.findData("any"))
    spec = form.spec()
    assert (spec.shape, spec.spacing, spec.orientation) == ((24, 24, 24), None, None)
    assert spec.intensity == "none"
    type_steps(form, "")
    assert form.orientation.isVisible()
    assert (form.spec().orientation, form.spec().intensity) == ("LPS", "max")


def test_the_size_follows_the_steps_while_they_are_edited(form):
    form.show_spec(InputSpec(steps="Resize((64, 64, 48))"))
    assert not form.shape.isVisible()
    type_steps(form, "Resize((32, 32, 24))")
    assert form.spec().shape == (32, 32, 24)


@pytest.mark.parametrize("text", ["Spacing(", "Spacin((1, 1, 1))", "Spacing('fine')", "1, 2"])
def test_steps_that_are_none_are_a_plain_error(form, text, plain):
    type_steps(form, text)
    with pytest.raises(VolumeError) as caught:
        form.spec()
    plain(caught.value)
