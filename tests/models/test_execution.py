"""Running a network without changing it, and errors in plain words."""

import pytest
import torch
from torch import nn

from napari_cnnvis.errors import ComputeError, MethodError
from napari_cnnvis.models.execution import OutOfMemory, inspecting, pick_device, plain_errors


def tiny_net():
    net = nn.Sequential(
        nn.Conv3d(1, 3, 3),
        nn.BatchNorm3d(3),
        nn.ReLU(inplace=True),
        nn.Dropout(0.5),
        nn.AdaptiveAvgPool3d(1),
        nn.Flatten(),
        nn.Linear(3, 2),
    )
    net[1].eval()
    net[0].bias.requires_grad_(False)
    net[6].weight.grad = torch.ones(2, 3)
    return net


def state_of(net):
    """Everything about a network that a user could miss."""
    return {
        "training": [m.training for m in net.modules()],
        "inplace": [getattr(m, "inplace", None) for m in net.modules()],
        "hooks": [len(m._forward_hooks) for m in net.modules()],
        "wanting": [p.requires_grad for p in net.parameters()],
        "grads": [None if p.grad is None else p.grad.tolist() for p in net.parameters()],
        "values": {n: t.tolist() for n, t in net.state_dict().items()},
    }


def test_inside_the_block_the_net_is_frozen_and_repeatable():
    net = tiny_net()
    x = torch.rand(2, 1, 5, 5, 5)
    with inspecting(net) as inside:
        assert inside is net
        assert not any(m.training for m in net.modules())
        assert not any(p.requires_grad for p in net.parameters())
        assert torch.equal(net(x), net(x))


def test_activations_do_not_overwrite_what_a_hook_keeps():
    net = tiny_net()
    kept = []
    net[1].register_forward_hook(lambda _, __, output: kept.append((output, output.clone())))
    with inspecting(net):
        net(torch.randn(1, 1, 5, 5, 5))
    (output, copy) = kept[0]
    assert (copy < 0).any()
    assert torch.equal(output, copy)


def test_everything_is_restored():
    net = tiny_net()
    before = state_of(net)
    with inspecting(net):
        net(torch.rand(2, 1, 5, 5, 5, requires_grad=True)).sum().backward()
    assert state_of(net) == before


def test_everything_is_restored_after_an_exception():
    net = tiny_net()
    before = state_of(net)
    with pytest.raises(KeyboardInterrupt), inspecting(net):
        net(torch.rand(2, 1, 5, 5, 5))
        raise KeyboardInterrupt
    assert state_of(net) == before


def test_blocks_can_be_nested():
    net = tiny_net()
    before = state_of(net)
    with inspecting(net), inspecting(net):
        pass
    assert state_of(net) == before


def test_a_gradient_can_begin_at_the_input():
    net = tiny_net()
    x = torch.rand(1, 1, 5, 5, 5, requires_grad=True)
    with inspecting(net):
        net(x)[0, 0].backward()
    assert x.grad.abs().sum() > 0
    assert net[0].weight.grad is None


def test_an_error_of_the_network_becomes_a_plain_one(plain):
    with pytest.raises(ComputeError) as caught, plain_errors("scoring 5 x 5 x 5 voxels"):
        nn.Conv3d(2, 1, 3)(torch.rand(1, 1, 5, 5, 5))
    assert not isinstance(caught.value, OutOfMemory)
    assert "expected input" in plain(caught.value, "scoring 5 x 5 x 5 voxels")
    assert isinstance(caught.value.__cause__, RuntimeError)


@pytest.mark.parametrize("error", [ValueError(""), IndexError("first\nsecond"), TypeError("no")])
def test_other_errors_become_plain_ones_of_one_line(plain, error):
    with pytest.raises(ComputeError) as caught, plain_errors("running"):
        raise error
    text = plain(caught.value, "while running")
    assert "second" not in text


def test_memory_running_out_becomes_a_plain_error(plain):
    with pytest.raises(OutOfMemory) as caught, plain_errors("scoring"):
        torch.empty(1 << 58)
    assert "Memory ran out while scoring" in plain(caught.value)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        MemoryError(),
        RuntimeError("MPS backend out of memory"),
    ],
)
def test_every_way_of_running_out_of_memory_is_recognised(error):
    with pytest.raises(OutOfMemory), plain_errors("scoring"):
        raise error


def test_the_project_s_own_errors_pass_through():
    with pytest.raises(MethodError, match=r"^as it is$"), plain_errors("scoring"):
        raise MethodError("as it is")


def test_devices():
    assert pick_device("cpu") == torch.device("cpu")
    assert pick_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("device", ["abacus", "cuda:99", "cpu:x", ""])
def test_an_unknown_device_is_a_plain_error(plain, device):
    with pytest.raises(ComputeError) as caught:
        pick_device(device)
    assert "use 'auto' or 'cpu'" in plain(caught.value, f"'{device}'")
