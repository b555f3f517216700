"""Networks that are recognised by their weights, and those that a user names."""

import pytest
import torch
from safetensors.torch import save_file

from napari_cnnvis.errors import CheckpointError
from napari_cnnvis.models.checkpoint import load_model
from napari_cnnvis.models.networks.vox import VoxResNetGAP, VoxVGG
from napari_cnnvis.scan.conform import InputSpec

from .trained_nets import NETS, Wrapper, assert_same_weights, saved, trained


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("n_classes", [2, 5])
def test_architecture_is_recognised_from_a_state_dict(tmp_path, net, n_classes):
    module = trained(net, n_classes=n_classes)
    path = saved({"state_dict": module.state_dict(), "epoch": 3}, tmp_path / "net.pt")
    model = load_model(path, device="cpu")
    assert type(model.module) is net
    assert model.class_names == tuple(f"class {n}" for n in range(n_classes))
    assert model.input_spec == InputSpec(shape=net.required_shape)
    assert_same_weights(model.module, module)


def test_architecture_is_recognised_with_prefixes_and_without_counters(tmp_path):
    module = trained(VoxResNetGAP)
    state = {
        f"module.model.{name}": tensor
        for name, tensor in module.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    model = load_model(saved(state, tmp_path / "net.pth"), device="cpu")
    assert_same_weights(model.module, module)


def test_architecture_is_recognised_in_safetensors_of_others(tmp_path):
    module = trained(VoxVGG)
    save_file(module.state_dict(), tmp_path / "net.safetensors")
    model = load_model(tmp_path / "net.safetensors", device="cpu")
    assert type(model.module) is VoxVGG
    assert_same_weights(model.module, module)


@pytest.mark.parametrize("net", NETS)
def test_nets_for_several_channels_are_recognised(tmp_path, net):
    module = trained(net, in_channels=2)
    model = load_model(saved(module.state_dict(), tmp_path / "net.pt"), device="cpu")
    assert type(model.module) is net
    assert model.input_spec == InputSpec(shape=net.required_shape, channels=2)
    assert_same_weights(model.module, module)


@pytest.mark.parametrize("ending", [".pt", ".safetensors"])
def test_half_precision_weights_are_widened(tmp_path, ending):
    module = trained(VoxResNetGAP).half()
    path = tmp_path / f"net{ending}"
    (torch.save if ending == ".pt" else save_file)(module.state_dict(), path)
    model = load_model(path, device="cpu")
    assert {p.dtype for p in model.module.parameters()} == {torch.float32}
    assert_same_weights(model.module, module.float())


@pytest.mark.parametrize("prefix", ["", "module.", "model."])
@pytest.mark.parametrize("inner", [True, False], ids=["Wrapper", "Sequential"])
def test_a_network_of_the_user_s_own(tmp_path, prefix, inner):
    source, target = Wrapper(), Wrapper()
    if not inner:
        source, target = source.net, target.net
    state = {f"{prefix}{name}": tensor for name, tensor in source.state_dict().items()}
    model = load_model(saved(state, tmp_path / "net.pt"), device="cpu", arch=target)
    assert model.module is target
    assert model.architecture == type(target).__name__
    assert_same_weights(target, source)


def test_weights_of_the_inner_network_load_into_its_wrapper(tmp_path):
    source, target = Wrapper(), Wrapper()
    load_model(saved(source.net.state_dict(), tmp_path / "net.pt"), device="cpu", arch=target)
    assert_same_weights(target, source)


def test_a_built_in_network_by_name(tmp_path):
    path = saved(trained(VoxVGG).state_dict(), tmp_path / "net.pt")
    assert type(load_model(path, device="cpu", arch="VoxVGG").module) is VoxVGG
    for other in ("VoxResNet", "AlexNet"):
        with pytest.raises(CheckpointError, match=other):
            load_model(path, device="cpu", arch=other)


def test_a_whole_network_loads_if_trusted(tmp_path, plain):
    path = saved(Wrapper().net, tmp_path / "net.pt")
    with pytest.raises(CheckpointError) as caught:
        load_model(path, device="cpu")
    text = plain(caught.value, path)
    assert "torch.nn.modules.container.Sequential with trust=True" in text
    model = load_model(path, device="cpu", trust=True)
    assert model.target_layers == ["0", "1"]
    assert model.notes


BEHIND = {
    "module": lambda state: {f"module.{k}": v for k, v in state.items()},
    "two prefixes": lambda state: {f"model.net.{k}": v for k, v in state.items()},
    "a wrapper inside": lambda state: {f"net._orig_mod.{k}": v for k, v in state.items()},
    "beside a loss": lambda state: {
        **{f"model.{k}": v for k, v in state.items()},
        "loss.weight": torch.ones(2),
    },
    "beside a metric and an averaged copy's counter": lambda state: {
        "n_averaged": torch.tensor(5),
        **{f"module.model.{k}": v for k, v in state.items()},
        "module.metric.total": torch.ones(3),
    },
    "own prefix": lambda state: {f"classifier_3d.{k}": v for k, v in state.items()},
}


@pytest.mark.parametrize("ending", [".pt", ".safetensors"])
@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("case", BEHIND)
def test_networks_are_recognised_behind_prefixes_and_beside_other_weights(
    tmp_path, net, case, ending
):
    module = trained(net, n_classes=3)
    path = tmp_path / f"net{ending}"
    content = {k: v.clone() for k, v in BEHIND[case](module.state_dict()).items()}
    (torch.save if ending == ".pt" else save_file)(content, path)
    model = load_model(path, device="cpu")
    assert type(model.module) is net
    assert_same_weights(model.module, module)


@pytest.mark.parametrize("case", BEHIND)
def test_networks_of_monai_are_suggested_behind_prefixes(tmp_path, case):
    nets = pytest.importorskip("monai.networks.nets")
    module = nets.resnet10(spatial_dims=3, n_input_channels=1, num_classes=3)
    path = saved(BEHIND[case](module.state_dict()), tmp_path / "net.pt")
    with pytest.raises(CheckpointError) as caught:
        load_model(path, device="cpu")
    assert caught.value.suggestion.startswith("monai.networks.nets:resnet10(")
    model = load_model(path, device="cpu", arch=caught.value.suggestion)
    assert_same_weights(model.module, module)
