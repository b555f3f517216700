"""From a checkpoint file to a model, and back to the project's own file."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from napari_cnnvis.errors import CheckpointError, CnnVisError, MethodError, VolumeError
from napari_cnnvis.models.checkpoint import load_model, save_model
from napari_cnnvis.models.formats.checkpoint_file import write_safetensors
from napari_cnnvis.models.model import Model
from napari_cnnvis.models.networks.vox import VoxResNet, VoxResNetGAP, VoxVGG
from napari_cnnvis.scan.conform import InputSpec
from napari_cnnvis.scan.volume import Volume

NETS = [VoxVGG, VoxResNet, VoxResNetGAP]
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm3d)


def trained(net, **arguments):
    """A network with random weights, and random BatchNorm statistics as training leaves them."""
    torch.manual_seed(0)
    module = net(**arguments)
    with torch.no_grad():
        for layer in module.modules():
            if isinstance(layer, BATCH_NORMS):
                layer.running_mean.normal_(0, 0.1)
                layer.running_var.uniform_(0.5, 2)
                layer.weight.uniform_(0.5, 1.5)
                layer.bias.normal_(0, 0.1)
    return module


def saved(content, path):
    torch.save(content, path)
    return path


def assert_same_weights(module, expected, **tolerance):
    state, wanted = module.state_dict(), expected.state_dict()
    assert state.keys() == wanted.keys()
    for name, tensor in wanted.items():
        if not name.endswith("num_batches_tracked"):
            torch.testing.assert_close(state[name], tensor, **(tolerance or {"rtol": 0, "atol": 0}))


def logits(module, size):
    """Logits of a random volume; VoxResNet's last pooling is fitted to the smaller volume."""
    if isinstance(module, VoxResNet):
        module.pool10 = nn.AdaptiveMaxPool3d(2)
    x = torch.rand(1, 1, size, size, size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return module.eval()(x)


@pytest.mark.parametrize("net", NETS)
def test_own_format_keeps_everything(tmp_path, net):
    module = trained(net, n_classes=3)
    spec = InputSpec((110, 110, 110), (1.5, 1.5, 1.5), "RAS", "z-score")
    training = {"epochs": 70, "seed": 1, "folds": [0.8, 0.9]}
    path = save_model(module, tmp_path / "net.safetensors", ["AD", "MCI", "NC"], spec, training)
    model = load_model(path, device="cpu")
    assert type(model.module) is net
    assert model.architecture == net.__name__
    assert model.class_names == ("AD", "MCI", "NC")
    assert model.input_spec == spec
    assert model.training == training
    assert_same_weights(model.module, module)


def test_what_the_caller_says_goes_before_the_file(tmp_path):
    path = save_model(
        trained(VoxResNetGAP), tmp_path / "net.safetensors", ["AD", "NC"], InputSpec((9, 9, 9))
    )
    model = load_model(path, "cpu", class_names=["yes", "no"], input_spec=InputSpec((8, 8, 8)))
    assert model.class_names == ("yes", "no")
    assert model.input_shape == (8, 8, 8)


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


def write_lasagne(module, path):
    """As Lasagne's get_all_param_values gives them: layer by layer, dense transposed."""
    arrays = []
    for layer in module.modules():
        if isinstance(layer, nn.Conv3d):
            arrays += [layer.weight, layer.bias]
        elif isinstance(layer, nn.Linear):
            arrays += [layer.weight.T, layer.bias]
        elif isinstance(layer, BATCH_NORMS):
            inv_std = 1 / torch.sqrt(layer.running_var + 1e-4)
            arrays += [layer.bias, layer.weight, layer.running_mean, inv_std]
    np.savez(path, *[a.detach().numpy() for a in arrays])
    return path


@pytest.mark.parametrize(("net", "size"), [(VoxVGG, 110), (VoxResNet, 28), (VoxResNetGAP, 12)])
def test_lasagne_weights_give_the_same_logits(tmp_path, net, size):
    module = trained(net)
    model = load_model(write_lasagne(module, tmp_path / "net.npz"), device="cpu")
    assert model.architecture == net.__name__
    assert model.input_shape == net.required_shape
    assert_same_weights(model.module, module, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(
        logits(model.module, size), logits(module, size), rtol=1e-4, atol=1e-4
    )


def test_lasagne_weights_of_other_class_numbers(tmp_path):
    path = write_lasagne(trained(VoxResNetGAP, n_classes=4), tmp_path / "net.npz")
    assert len(load_model(path, device="cpu").class_names) == 4


class Wrapper(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv3d(1, 2, 3), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(2, 2)
        )

    def forward(self, x):
        return self.net(x)


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


def changed(net, **tensors):
    return {**trained(net).state_dict(), **tensors}


def with_nan(net):
    state = trained(net).state_dict()
    state["conv1b.weight"].view(-1)[5] = torch.nan
    return state


def without(state, *names):
    return {name: tensor for name, tensor in state.items() if name not in names}


SAVED_FROM, EARLIER = (
    "Name the network that these weights were saved from",
    "take an earlier checkpoint",
)
MISFITS = {
    "another network": (Wrapper().state_dict, "arch='module:callable(arguments)'"),
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


LASAGNE_MISFITS = {
    "too few arrays": lambda arrays: arrays[:-2],
    "wrong order": lambda arrays: arrays[::-1],
    "wrong shape": lambda arrays: [*arrays[:2], arrays[2][:4], *arrays[3:]],
    "a number": lambda arrays: [np.float32(3), *arrays],
}


@pytest.mark.parametrize("case", LASAGNE_MISFITS)
def test_lasagne_arrays_of_another_network_are_refused(tmp_path, plain, case):
    path = write_lasagne(trained(VoxVGG), tmp_path / "net.npz")
    with np.load(path) as file:
        arrays = [file[f"arr_{n}"] for n in range(len(file.files))]
    np.savez(path, *LASAGNE_MISFITS[case](arrays))
    with pytest.raises(CheckpointError) as caught:
        load_model(path, device="cpu")
    assert "Choose a checkpoint of" in plain(caught.value, path)


def test_lasagne_arrays_with_nan_are_refused(tmp_path, plain):
    module = trained(VoxVGG)
    with torch.no_grad():
        module.prob.bias[0] = torch.nan
    path = write_lasagne(module, tmp_path / "net.npz")
    with pytest.raises(CheckpointError) as caught:
        load_model(path, device="cpu")
    assert EARLIER in plain(caught.value, path)


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


def test_other_networks_are_saved_only_with_what_makes_them(tmp_path, plain):
    with pytest.raises(CheckpointError) as caught:
        save_model(Wrapper(), tmp_path / "net.safetensors", ["a", "b"], InputSpec())
    assert "arch='module:callable(arguments)'" in plain(caught.value, "Wrapper")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["net.pt", "net", "none/net.safetensors"])
def test_a_wrong_place_to_save_is_refused(tmp_path, plain, name):
    with pytest.raises(CnnVisError) as caught:
        save_model(trained(VoxVGG), tmp_path / name, ["a", "b"], InputSpec())
    plain(caught.value, "net")
    assert list(tmp_path.iterdir()) == []


def test_saving_does_not_change_the_network(tmp_path):
    module = trained(VoxResNetGAP).to(memory_format=torch.channels_last_3d)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    path = save_model(module, tmp_path / "net.safetensors", ["a", "b"], InputSpec())
    assert module.training
    assert module.conv1b.weight.is_contiguous(memory_format=torch.channels_last_3d)
    assert all(torch.equal(tensor, before[name]) for name, tensor in load_file(path).items())


RESNET = (
    "monai.networks.nets:resnet10(spatial_dims=3, n_input_channels=1, num_classes=3, "
    "widen_factor=0.125)"
)


def test_a_built_in_network_named_by_text_is_saved_with_it(tmp_path):
    first = saved(trained(VoxResNetGAP, n_classes=3).state_dict(), tmp_path / "net.pt")
    model = load_model(first, "cpu", arch="VoxResNetGAP(n_classes=3)", class_names=["a", "b", "c"])
    again = load_model(save_model(model, tmp_path / "again.safetensors"), "cpu")
    assert again.arch == model.arch == "VoxResNetGAP(n_classes=3)"
    assert again.class_names == ("a", "b", "c")
    assert again.weights_hash() == model.weights_hash()


def test_a_network_of_another_package_comes_back_from_its_header(tmp_path):
    nets = pytest.importorskip("monai.networks.nets")
    torch.manual_seed(0)
    net = nets.resnet10(spatial_dims=3, n_input_channels=1, num_classes=3, widen_factor=0.125)
    torch.save(net.state_dict(), tmp_path / "net.pt")
    spec = InputSpec((33, 32, 31), (1, 2, 3), "RAS", "z-score")
    model = load_model(
        tmp_path / "net.pt", "cpu", arch=RESNET, class_names=["a", "b", "c"], input_spec=spec,
        output="sigmoid",
    )  # fmt: skip
    model.training = {"epochs": 3}
    again = load_model(save_model(model, tmp_path / "net.safetensors"), "cpu")
    assert again.arch == model.arch == RESNET
    assert again.class_names == ("a", "b", "c")
    assert again.input_spec == spec
    assert again.outputs == model.outputs
    assert again.training == {"epochs": 3}
    assert_same_weights(again.module, net)


@pytest.mark.parametrize("names", [["AD"], ["NC", "AD"]])
def test_names_of_a_single_output_round_trip(tmp_path, names):
    module = trained(VoxResNetGAP, n_classes=1)
    torch.save(module.state_dict(), tmp_path / "net.pt")
    model = load_model(tmp_path / "net.pt", "cpu", class_names=names)
    again = load_model(save_model(model, tmp_path / "net.safetensors"), "cpu")
    assert (
        again.class_names
        == model.class_names
        == (("not AD", "AD") if len(names) == 1 else ("NC", "AD"))
    )


def test_a_sidecar_completes_a_checkpoint(tmp_path):
    path = saved(trained(VoxResNetGAP).state_dict(), tmp_path / "net.pt")
    header = {
        "class_names": ["NC", "AD"],
        "input": {"shape": [9, 8, 7], "intensity": "z-score"},
        "training": {"epochs": 3},
    }
    path.with_suffix(".json").write_text(json.dumps(header))
    model = load_model(path, "cpu")
    assert model.class_names == ("NC", "AD")
    assert model.input_spec == InputSpec((9, 8, 7), intensity="z-score")
    assert model.training == {"epochs": 3}
    assert "completed by net.json" in model.notes


def test_a_header_goes_before_its_sidecar_and_the_caller_before_both(tmp_path):
    path = save_model(trained(VoxResNetGAP), tmp_path / "net.safetensors", ["a", "b"])
    path.with_suffix(".json").write_text(
        json.dumps({"class_names": ["c", "d"], "output": "sigmoid"})
    )
    model = load_model(path, "cpu")
    assert model.class_names == ("a", "b")
    assert model.outputs.kind == "sigmoid"
    model = load_model(path, "cpu", class_names=["e", "f"], output="softmax")
    assert model.class_names == ("e", "f")
    assert model.outputs.kind == "softmax"


class Flattening(nn.Module):
    """Fits one input size, and flattens its maps as most tutorials do."""

    def __init__(self, side=32, channels=1):
        super().__init__()
        self.conv = nn.Conv3d(channels, 3, 3, stride=2, padding=1)
        self.more = nn.Conv3d(3, 4, 3, stride=2, padding=1)
        self.fc = nn.Linear(4 * (side // 4) ** 3, 2)

    def forward(self, x):
        x = torch.relu(self.more(torch.relu(self.conv(x))))
        return self.fc(x.view(x.size(0), -1))


@pytest.mark.parametrize("side", [32, 96])
def test_a_net_of_one_size_is_given_a_shape_that_fits(tmp_path, side):
    path = saved(Flattening(side).state_dict(), tmp_path / "net.pt")
    model = load_model(path, "cpu", arch=Flattening(side))
    assert model.input_shape == (side,) * 3
    (note,) = [n for n in model.notes if "cannot take scans of any size" in n]
    assert f"{side} x {side} x {side} voxels" in note
    scan = Volume(np.random.default_rng(0).random((20, 40, 30)))
    assert model.predict(scan).sum() == pytest.approx(1, abs=1e-6)


def test_a_shape_that_does_not_fit_is_refused_with_one_that_does(tmp_path, plain):
    path = saved(Flattening().state_dict(), tmp_path / "net.pt")
    with pytest.raises(CnnVisError) as caught:
        load_model(path, "cpu", arch=Flattening(), input_spec=InputSpec((40, 40, 40)))
    text = plain(caught.value)
    assert "40 x 40 x 40 voxels" in text
    assert "32 x 32 x 32" in text


def test_a_net_that_views_its_maps_takes_batches_in_any_memory_layout():
    torch.manual_seed(0)
    net = Flattening()
    x = torch.rand(3, 1, 32, 32, 32)
    with torch.no_grad():
        wanted = Flattening.forward(net.eval(), x)
    model = Model(net, input_spec=InputSpec((32, 32, 32)), device="cpu")
    for given in (x, model.arranged(x)):
        torch.testing.assert_close(model.logits(given), wanted, rtol=1e-4, atol=1e-5)


class LooksAtValues(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv3d(1, 2, 3)
        self.head = nn.Linear(2, 2)

    def forward(self, x):
        if x.max() > 0:
            x = x / x.max()
        return self.head(self.conv(x).mean((2, 3, 4)))


def test_nets_that_look_at_values_become_models(tmp_path):
    torch.manual_seed(0)
    net = LooksAtValues()
    path = saved(net.state_dict(), tmp_path / "net.pt")
    model = load_model(path, "cpu", arch=LooksAtValues())
    assert model.target_layers == ["conv"]
    assert model.layers((9, 8, 7)).targets[0].shape == (7, 6, 5)
    x = torch.rand(1, 1, 9, 8, 7)
    with torch.no_grad():
        torch.testing.assert_close(model.logits(x), net(x))


@pytest.mark.parametrize(
    "wrap",
    [lambda y: (y, y[:, :, None]), lambda y: {"logits": y}, lambda y: [None, y]],
    ids=["tuple", "dictionary", "list"],
)
def test_outputs_may_be_in_a_container(wrap):
    class Wrapping(Wrapper):
        def forward(self, x):
            return wrap(self.net(x))

    torch.manual_seed(0)
    net = Wrapping()
    model = Model(net, device="cpu")
    x = torch.rand(2, 1, 5, 5, 5)
    with torch.no_grad():
        torch.testing.assert_close(model.logits(x), net.net(x))


def test_weights_hash_of_half_precision_integers_and_empty_buffers():
    def hash_of(**buffers):
        net = Wrapper().net
        torch.manual_seed(0)
        for parameter in net.parameters():
            nn.init.normal_(parameter)
        for name, buffer in buffers.items():
            net.register_buffer(name, buffer)
        return Model(net, device="cpu").weights_hash()

    hashes = {
        hash_of(),
        hash_of(b=torch.ones(2, dtype=torch.float16)),
        hash_of(b=torch.ones(2, dtype=torch.bfloat16)),
        hash_of(b=torch.ones(2, dtype=torch.int64)),
        hash_of(b=torch.ones(2, dtype=torch.bool)),
        hash_of(b=torch.tensor(3)),
        hash_of(b=torch.zeros(0)),
        hash_of(c=torch.zeros(0)),
    }
    assert len(hashes) == 8
    assert hash_of(b=torch.tensor(3)) in hashes
    memory = torch.arange(16.0).reshape(4, 4)
    assert hash_of(b=memory.T) == hash_of(b=memory.T.contiguous())


def test_other_input_or_classes_do_not_copy_the_weights():
    model = Model(Wrapper().net, ["a", "b"], device="cpu", notes=["as loaded"])
    other = model.with_input(InputSpec((9, 9, 9))).with_classes(["c", "d"])
    assert other.module is model.module
    assert other.module[0].weight.data_ptr() == model.module[0].weight.data_ptr()
    assert (other.input_shape, other.class_names) == ((9, 9, 9), ("c", "d"))
    assert (model.input_shape, model.class_names) == (None, ("a", "b"))
    assert other.notes == model.notes == ("as loaded",)
    values = model.with_classes(["age", "size"], "regression")
    assert values.class_names == ("lower age", "higher age", "lower size", "higher size")


def test_two_input_channels_take_two_volumes(tmp_path, plain):
    path = saved(trained(VoxResNetGAP, in_channels=2).state_dict(), tmp_path / "net.pt")
    model = load_model(path, "cpu")
    assert model.input_spec.channels == 2
    t1, t2 = (Volume(np.random.default_rng(n).random((9, 8, 7)), name=f"T{n}") for n in (1, 2))
    x = torch.from_numpy(np.stack([t1.data / t1.data.max(), t2.data / t2.data.max()]))[None]
    with torch.no_grad():
        wanted = trained(VoxResNetGAP, in_channels=2).eval()(x).softmax(1)[0]
    np.testing.assert_allclose(model.predict([t1, t2]), wanted, rtol=1e-3)
    for given in (t1, [t1], [t1, t2, t1]):
        with pytest.raises(VolumeError) as caught:
            model.predict(given)
        plain(caught.value, "The model takes 2 input channel(s), but")
    with pytest.raises(VolumeError) as caught:
        model.predict([t1, Volume(t2.data[1:], name="T2")])
    plain(caught.value, "'T2' is not on the grid of 'T1'")
