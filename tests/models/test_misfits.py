"""Weights and headers that do not fit a network are refused with a remedy."""

import pytest
import torch
from safetensors.torch import save_file

from napari_cnnvis.errors import CheckpointError, MethodError
from napari_cnnvis.models.checkpoint import load_model, save_model
from napari_cnnvis.models.formats.checkpoint_file import write_safetensors
from napari_cnnvis.models.networks.vox import VoxResNetGAP, VoxVGG
from napari_cnnvis.scan.conform import InputSpec

from .trained_nets import EARLIER, SAVED_FROM, Wrapper, saved, trained


def changed(net, **tensors):
    return {**trained(net).state_dict(), **tensors}


def with_nan(net):
    state = trained(net).state_dict()
    state["conv1b.weight"].view(-1)[5] = torch.nan
    return state


def without(state, *names):
    return {name: tensor for name, tensor in state.items() if name not in names}


MISFITS = {
    "another network": (Wrapper().state_dict, "as module:callable(arguments)"),
    "a missing weight": (lambda: without(changed(VoxVGG), "conv2a.bias"), SAVED_FROM),
    "a weight too many": (lambda: changed(VoxVGG, conv9=torch.ones(2)), SAVED_FROM),
    "a wrong shape": (lambda: changed(VoxVGG, **{"conv1b.weight": torch.ones(8, 8, 5, 5, 5)}), SAVED_FROM),
    "a flat first layer": (lambda: changed(VoxVGG, **{"conv1a.weight": torch.ones(8, 27)}), SAVED_FROM),
    "NaN weights": (lambda: with_nan(VoxResNetGAP), EARLIER),
    "infinite weights": (lambda: changed(VoxVGG, **{"bn.bias": torch.full((128,), torch.inf)}), EARLIER),
}  # fmt: skip


@pytest.mark.parametrize("case", MISFITS)
@pytest.mark.parametrize("ending", [".pt", ".safetensors"])
def test_misfits_give_a_plain_sentence_with_a_remedy(tmp_path, plain, case, ending):
    make, remedy = MISFITS[case]
    path = tmp_path / f"net{ending}"
    (torch.save if ending == ".pt" else save_file)(make(), path)
    with pytest.raises(CheckpointError) as caught:
        load_model(path, device="cpu")
    assert remedy in plain(caught.value, path)


def test_a_misfit_leaves_the_user_s_network_as_it_was(tmp_path):
    target = Wrapper()
    before = {name: tensor.clone() for name, tensor in target.state_dict().items()}
    other = {name: tensor[:1] for name, tensor in before.items()}
    with pytest.raises(CheckpointError, match="has shape"):
        load_model(saved(other, tmp_path / "net.pt"), device="cpu", arch=target)
    assert all(torch.equal(target.state_dict()[name], tensor) for name, tensor in before.items())


@pytest.mark.parametrize(
    "header",
    [
        {"input": {"shape": [1, 2]}},
        {"input": {"intensity": "loud"}},
        {"input": {"colour": "red"}},
        {"input": [110, 110, 110]},
        {"architecture": {"name": "VoxVGG", "arguments": {"depth": 3}}},
    ],
)
def test_a_wrong_header_is_refused(tmp_path, plain, header):
    path = tmp_path / "net.safetensors"
    write_safetensors(path, trained(VoxVGG).state_dict(), header)
    with pytest.raises(CheckpointError) as caught:
        load_model(path, device="cpu")
    plain(caught.value)


def test_class_names_that_do_not_fit_are_refused(tmp_path, plain):
    path = tmp_path / "a.safetensors"
    with pytest.raises(CheckpointError) as caught:
        save_model(trained(VoxResNetGAP), path, ["AD"], InputSpec())
    plain(caught.value, "1 class names were given for 2 outputs")
    save_model(trained(VoxResNetGAP), path, ["AD", "NC"], InputSpec())
    with pytest.raises(MethodError) as caught:
        load_model(path, device="cpu", class_names=["AD"])
    plain(caught.value, "1 class names were given for 2 outputs")
