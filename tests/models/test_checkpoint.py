"""From a checkpoint file to a model, and back to the project's own file."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from napari_cnnvis.errors import CheckpointError, CnnVisError, VolumeError
from napari_cnnvis.models.checkpoint import load_model, save_model
from napari_cnnvis.models.model import Model
from napari_cnnvis.models.networks.vox import VoxResNetGAP, VoxVGG
from napari_cnnvis.scan.conform import InputSpec
from napari_cnnvis.scan.volume import Volume

from .trained_nets import NETS, Wrapper, assert_same_weights, saved, trained


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
