"""Where the scores are in what a network gives, and what it applies to them last."""

from collections import OrderedDict, namedtuple
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import napari_cnnvis as cv
from napari_cnnvis.errors import CnnVisError, ComputeError, MethodError
from napari_cnnvis.models.scores import LostRows, Part, Reading, choose_part, parts_of_output

TWO, MAPS = torch.arange(2.0).reshape(1, 2), torch.zeros(1, 2, 4, 4, 4)
SCAN = cv.Volume(
    np.random.default_rng(0).random((16, 16, 16)).astype(np.float32), np.eye(4), "scan"
)


def chosen(output, n_names=None, wanted=None):
    parts = [Part(name, tuple(t.shape)) for name, t in parts_of_output(output)]
    return choose_part(parts, n_names, wanted)


class Net(nn.Module):
    """Eight features and their scores; `give` makes the output of both."""

    def __init__(self, n=2, give=lambda features, scores: scores, lift=0.0):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.out, self.give = nn.Conv3d(1, 8, 3, padding=1), nn.Linear(8, n), give
        with torch.no_grad():
            self.out.bias[-1] += lift

    def forward(self, x):
        features = torch.relu(self.conv(x)).mean((2, 3, 4))
        return self.give(features, self.out(features))


Named = namedtuple("Named", "features logits")


@dataclass
class Data:
    features: Tensor
    class_logits: Tensor


class Output(OrderedDict):
    """As transformers give it."""


GIVEN = {
    "a tensor": TWO,
    "trailing axes": TWO[:, :, None, None, None],
    "a tuple with maps": (MAPS, TWO),
    "a list with other things": [None, "text", TWO],
    "nested": {"main": (TWO, MAPS)},
    "a dictionary": {"logits": TWO, "maps": MAPS},
    "features before logits": {"features": torch.zeros(1, 8), "logits": TWO},
    "a named tuple": Named(torch.zeros(1, 8), TWO),
    "a dataclass": Data(torch.zeros(1, 8), TWO),
    "of transformers": Output(hidden=torch.zeros(1, 9), logits=TWO),
    "deep supervision": [TWO, TWO * 0.5],
}


@pytest.mark.parametrize("given_output", GIVEN)
def test_scores_are_found_by_name_or_as_the_only_ones(given_output):
    assert chosen(GIVEN[given_output]).width == 2


def test_without_a_name_the_number_of_classes_says_it():
    output = (torch.zeros(1, 8), TWO)
    assert chosen(output, 2).name == "1"
    assert chosen(output, 8).name == "0"
    assert chosen(output, None, "0").width == 8
    with pytest.raises(MethodError, match=r"'0' \(1 x 8 values\), '1' .*scores='1'"):
        chosen(output)
    with pytest.raises(MethodError, match="no scores called 'logits'; it has '0'"):
        chosen(output, None, "logits")


@pytest.mark.parametrize(
    ("output", "words"),
    [
        (MAPS, "an output of 1 x 2 x 4 x 4 x 4 values"),
        ({"pred": MAPS}, "an output of 1 x 2 x 4 x 4 x 4 values"),
        ((), "no tensor"),
        (None, "no tensor"),
        ({"note": "text"}, "no tensor"),
        (torch.zeros(64, 2), "64 rows"),
        (torch.zeros(1, 0), "no outputs"),
    ],
)
def test_what_is_no_classifier_is_refused(plain, output, words):
    with pytest.raises(MethodError) as caught:
        chosen(output)
    assert words in plain(caught.value)


@pytest.mark.parametrize("pack", [Named, Data, lambda f, y: (f, y), lambda f, y: {"f": f, "y": y}])
def test_several_outputs_are_explained_as_the_one(pack):
    plain, packed = (cv.Model(net, ["NC", "AD"], device="cpu") for net in (Net(), Net(give=pack)))
    for name in ("cam", "grad-cam", "box"):
        if name != "cam":
            found = [cv.explain(m, SCAN, name, target="AD").data for m in (plain, packed)]
            np.testing.assert_allclose(*found, atol=1e-7)
    np.testing.assert_array_equal(plain.predict(SCAN), packed.predict(SCAN))
    assert any("is the scores" in note for note in packed.notes)


def test_which_output_can_be_said():
    model = cv.Model(Net(give=lambda f, y: (f, y)), device="cpu", scores="0")
    assert len(model.class_names) == 8
    assert model.with_input(cv.InputSpec((12, 12, 12))).scores == "0"


@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize(
    "lose",
    [
        lambda f, y: y.squeeze(),
        lambda f, y: y.flatten(),
        lambda f, y: y[..., None, None].squeeze(0),
        lambda f, y: (y.squeeze(), None),
    ],
    ids=["squeeze", "flatten", "squeeze(0)", "in a tuple"],
)
def test_a_lost_batch_axis_is_not_taken_for_classes(n, lose):
    plain, lost = (cv.Model(net, device="cpu") for net in (Net(n), Net(n, lose)))
    np.testing.assert_allclose(lost.predict(SCAN), plain.predict(SCAN), atol=1e-6)
    maps = [cv.box_sensitivity(m, SCAN, 0, size=5, stride=4, inside=None) for m in (plain, lost)]
    np.testing.assert_allclose(maps[0].data, maps[1].data, atol=1e-6)


def test_an_output_of_the_first_scan_only_is_run_one_by_one():
    model = cv.Model(Net(give=lambda f, y: y[0]), device="cpu")
    assert not model.takes_batches(model.tensor(SCAN.data))
    plain = cv.Model(Net(), device="cpu")
    maps = [cv.box_sensitivity(m, SCAN, 0, size=5, stride=4, inside=None) for m in (plain, model)]
    np.testing.assert_allclose(maps[0].data, maps[1].data, atol=1e-6)


class ViewsSpace(nn.Module):
    """Made for 24 x 24 x 24 voxels; other sizes become rows of the batch."""

    def __init__(self):
        super().__init__()
        self.conv, self.out = nn.Conv3d(1, 2, 3, stride=4, padding=1), nn.Linear(2 * 6**3, 2)

    def forward(self, x):
        return self.out(torch.relu(self.conv(x)).view(-1, 2 * 6**3))


def test_space_that_became_the_batch_is_refused(plain):
    with pytest.raises(CnnVisError) as caught:
        cv.Model(ViewsSpace(), device="cpu", input_spec=cv.InputSpec((48, 48, 48)))
    assert "8 rows" in plain(caught.value)
    model = cv.Model(ViewsSpace(), device="cpu", input_spec=cv.InputSpec((24, 24, 24)))
    assert len(model.predict(SCAN)) == 2
    with pytest.raises(LostRows, match="8 rows of scores for 1 scan"):
        model.logits(torch.zeros(1, 1, 48, 48, 48))


ENDS = {
    "softmax": lambda f, y: y.softmax(1),
    "module": lambda f, y: nn.Softmax(1)(y),
    "clamped": lambda f, y: y.softmax(1).clamp(1e-7, 1 - 1e-7),
    "cast": lambda f, y: y.softmax(1).double(),
    "times one": lambda f, y: torch.softmax(y, dim=-1) * 1.0,
    "by index": lambda f, y: y.softmax(1)[:, [0, 1]],
    "in a tuple": lambda f, y: (y.softmax(1), f[:, :, None].expand(-1, -1, 3)),
    "log-softmax": lambda f, y: nn.functional.log_softmax(y, 1),
}


@pytest.mark.parametrize("lift", [0.0, 40.0], ids=["undecided", "sure"])
@pytest.mark.parametrize("end", ENDS)
def test_what_goes_into_a_final_softmax_is_explained(end, lift):
    plain, ending = (
        cv.Model(net, device="cpu") for net in (Net(2, lift=lift), Net(2, ENDS[end], lift))
    )
    np.testing.assert_allclose(ending.predict(SCAN), plain.predict(SCAN), atol=1e-6)
    for method in ("grad-cam", "box"):
        how = {"relu": False, "layer": "conv"} if method == "grad-cam" else {"score": "logit"}
        found = [cv.explain(m, SCAN, method, target=1, **how).data for m in (plain, ending)]
        assert np.abs(found[0]).max() > 0
        np.testing.assert_allclose(*found, rtol=1e-4, atol=1e-4 * np.abs(found[0]).max())


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("lift", [0.0, 40.0], ids=["undecided", "sure"])
def test_what_goes_into_a_final_sigmoid_is_explained(n, lift):
    nets = Net(n, lift=lift), Net(n, lambda f, y: torch.sigmoid(y).clamp(0, 1), lift)
    plain, ending = (cv.Model(net, device="cpu", output="sigmoid") for net in nets)
    np.testing.assert_allclose(ending.predict(SCAN), plain.predict(SCAN), atol=1e-6)
    found = (
        [cv.grad_cam(m, SCAN, n, relu=False, layer="conv").native for m in (plain, ending)]
        if n == 1
        else [cv.grad_cam(m, SCAN, 2, relu=False, layer="conv").native for m in (plain, ending)]
    )
    assert np.abs(found[0]).max() > 0
    np.testing.assert_allclose(*found, rtol=1e-4)


def by_hand(f, y):
    return y.exp() / y.exp().sum(1, keepdim=True)


def test_probabilities_made_by_hand_are_known_by_their_values():
    plain, ending = cv.Model(Net(3), device="cpu"), cv.Model(Net(3, by_hand), device="cpu")
    np.testing.assert_allclose(ending.predict(SCAN), plain.predict(SCAN), atol=1e-6)
    assert ending.reading.ends_in == "softmax"


def test_scores_that_look_like_probabilities_once_are_not_taken_for_them():
    def squeezed(f, y):
        return torch.cat([f[:, :1] * 0 + 0.25, 0.75 - f[:, :1].exp() * 0.01], 1)

    assert cv.Model(Net(2, squeezed), device="cpu").reading.ends_in == ""


def test_probabilities_can_be_said_to_be_such():
    def sparse(f, y):  # no softmax, and no sum of 1
        return y.abs() / 100

    model = cv.Model(Net(2, sparse), device="cpu", output="probabilities")
    raw = model.logits(model.tensor(model.conform(SCAN).data)).numpy()[0]
    np.testing.assert_allclose(model.predict(SCAN), raw / raw.sum(), rtol=1e-5)


def test_an_age_is_the_expected_value_over_bins():
    net, centres = Net(5), [40.5, 45.5, 50.5, 55.5, 60.5]
    model = cv.Model(net, centres, device="cpu", output="bins")
    x = model.tensor(model.conform(SCAN).data).requires_grad_()
    expected = (net(x).softmax(1) * torch.tensor(centres)).sum(1)
    assert model.predict(SCAN) == pytest.approx(expected.item(), rel=1e-6)
    assert model.class_names == ("lower value", "higher value")
    assert model.described(model.predict(SCAN)) == [("value", f"{expected.item():.4g}")]
    higher = cv.grad_cam(model, SCAN, "higher value", relu=False, layer="conv").native
    lower = cv.grad_cam(model, SCAN, "lower value", relu=False, layer="conv").native
    np.testing.assert_allclose(higher, -lower, rtol=1e-5)
    logged = cv.Model(Net(5, lambda f, y: y.log_softmax(1)), centres, device="cpu", output="bins")
    np.testing.assert_allclose(logged.predict(SCAN), model.predict(SCAN), rtol=1e-5)
    with pytest.raises(MethodError, match="5 bins; give the value at the centre"):
        cv.Model(Net(5), ["a", "b", "c", "d", "e"], device="cpu", output="bins")
    again = model.with_input(cv.InputSpec((12, 12, 12)))
    assert again.outputs.centres == tuple(centres)


def test_ordinal_outputs_give_a_class_more():
    net = Net(2)
    with torch.no_grad():
        net.out.weight[1] = net.out.weight[0]  # as CORAL: one weight, several biases
        net.out.bias[:] = torch.tensor([1.0, -1.0])
    model = cv.Model(net, ["NC", "MCI", "AD"], device="cpu", output="ordinal")
    beyond = net(model.tensor(model.conform(SCAN).data)).sigmoid()[0].detach().numpy()
    expected = [1 - beyond[0], beyond[0] - beyond[1], beyond[1]]
    np.testing.assert_allclose(model.predict(SCAN), expected, rtol=1e-5)
    for target in range(3):
        assert np.isfinite(cv.box_sensitivity(model, SCAN, target, size=7, stride=5).data).all()
    with pytest.raises(MethodError, match="CAM needs one output for each class"):
        cv.cam(model, SCAN, 0)


def test_a_reading_says_when_rows_are_lost():
    reading = Reading(Part("", (1, 2)))
    with pytest.raises(LostRows):
        reading.run(Net(2, lambda f, y: y[:1]), torch.zeros(3, 1, 6, 6, 6))
    assert issubclass(LostRows, ComputeError)
