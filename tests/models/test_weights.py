"""A file's weights against a network's: what is matched, and what is said."""

import pytest
import torch
from torch import nn

from napari_cnnvis.errors import CheckpointError
from napari_cnnvis.models.weights import load_weights, match_weights


class Net(nn.Module):
    def __init__(self, n_classes=2, channels=1):
        super().__init__()
        self.body = nn.Sequential(nn.Conv3d(channels, 4, 3), nn.BatchNorm3d(4), nn.ReLU())
        self.head = nn.Linear(4, n_classes)


class Wrapped(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = Net()


def state(net=Net, prefix="", **arguments):
    return {f"{prefix}{k}": v.clone() for k, v in net(**arguments).state_dict().items()}


def put(module, given):
    return load_weights(module, match_weights(module, given), type(module).__name__, "net.pt")


def refusal(plain, module, given):
    with pytest.raises(CheckpointError) as caught:
        put(module, given)
    return plain(caught.value, "net.pt")


def same(module, given):
    return all(torch.equal(v, given[k]) for k, v in module.state_dict().items())


@pytest.mark.parametrize("prefix", ["", "module.", "model.net.", "encoder.0."])
def test_a_prefix_of_the_file_is_undone(prefix):
    module, given = Net(), state(prefix=prefix)
    notes = put(module, given)
    assert same(module, {k.removeprefix(prefix): v for k, v in given.items()})
    assert notes == ((f"prefix '{prefix}' removed from the names",) if prefix else ())


def test_a_prefix_of_the_network_is_added():
    module, given = Wrapped(), state()
    assert put(module, given) == ()
    assert same(module.net, given)


def test_counters_of_batch_norm_may_be_left_out():
    given = {k: v for k, v in state().items() if not k.endswith("num_batches_tracked")}
    match = match_weights(Net(), given)
    assert match.fits
    assert match.expected == match.matched == 8


def test_what_lies_beside_the_network_is_left_out_and_noted():
    given = {**state(prefix="net."), "loss.weight": torch.ones(2), "loss.scale": torch.ones(1)}
    module = Net()
    prefix, others = put(module, given)
    assert prefix == "prefix 'net.' removed from the names"
    assert others == "2 tensors that are not the network's left out (all start with 'loss.')"
    assert same(module, {k.removeprefix("net."): v for k, v in given.items()})


def test_weights_that_are_too_many_without_a_prefix_are_refused(plain):
    text = refusal(plain, Net(), {**state(), "extra.weight": torch.ones(2)})
    assert "1 of the file's 10 weights is not part of it: extra.weight." in text


def test_missing_weights_are_summed_up(plain):
    given = {k: v for k, v in state().items() if not k.startswith("head.")}
    text = refusal(plain, Net(), given)
    assert "net.pt does not fit Net: 2 of 8 weights are missing; all start with 'head.'." in text
    assert text.endswith("Name the network that these weights were saved from.")


def test_one_missing_weight_is_named(plain):
    given = {k: v for k, v in state().items() if k != "head.bias"}
    assert "1 of 8 weights is missing: head.bias." in refusal(plain, Net(), given)


def test_missing_weights_of_several_parts_are_named_by_the_first_three(plain):
    given = {"head.bias": torch.ones(2)}
    text = refusal(plain, Net(), given)
    assert (
        "7 of 8 weights are missing: body.0.weight, body.0.bias, body.1.weight and 4 more." in text
    )


def test_another_number_of_classes_says_which(plain):
    text = refusal(plain, Net(), state(n_classes=5))
    assert "head.weight has shape (5, 4), but (2, 4) is needed (2 such weights)" in text
    assert text.endswith("gives 5 outputs: build the network with 5 classes.")


def test_other_input_channels_say_how_many(plain):
    text = refusal(plain, Net(), state(channels=3))
    assert "body.0.weight has shape (4, 3, 3, 3, 3), but (4, 1, 3, 3, 3) is needed" in text
    assert text.endswith("takes 3 channels: build the network with 3 input channels.")


def test_other_shapes_have_the_general_remedy(plain):
    given = {**state(), "body.0.weight": torch.ones(4, 1, 5, 5, 5)}
    assert refusal(plain, Net(), given).endswith("these weights were saved from.")


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_values_that_are_not_finite_are_refused(plain, value):
    given = state()
    given["body.0.weight"].view(-1)[7] = value
    module = Net()
    before = state(lambda: module)
    text = refusal(plain, module, given)
    assert "NaN or infinite values are in 1 of its weights: body.0.weight." in text
    assert text.endswith("take an earlier checkpoint.")
    assert same(module, before)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_widened_and_noted(dtype):
    given = {k: v.to(dtype) if v.is_floating_point() else v for k, v in state().items()}
    module = Net()
    (note,) = put(module, given)
    assert note == f"weights stored in {str(dtype).removeprefix('torch.')}, used in float32"
    assert {p.dtype for p in module.parameters()} == {torch.float32}
    assert all(torch.equal(v, given[k].to(v.dtype)) for k, v in module.state_dict().items())


def test_double_precision_is_narrowed():
    given = {k: v.double() if v.is_floating_point() else v for k, v in state().items()}
    module = Net()
    assert put(module, given) == ()
    assert module.head.weight.dtype == torch.float32
