"""The model: classes, probabilities, layers by name."""

import numpy as np
import pytest
import torch
from torch import nn

from napari_cnnvis.errors import ComputeError, MethodError
from napari_cnnvis.models.checkpoint import load_model, save_model
from napari_cnnvis.models.model import Model
from napari_cnnvis.models.networks.vox import VoxResNetGAP
from napari_cnnvis.scan.conform import InputSpec
from napari_cnnvis.scan.volume import Volume

SHAPE = (9, 10, 11)
LPI = np.diag([-2.0, -2.0, -2.0, 1.0])


def tiny_net(n_classes=3):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv3d(1, 4, 3),
        nn.BatchNorm3d(4),
        nn.ReLU(inplace=True),
        nn.Dropout(0.5),
        nn.AdaptiveAvgPool3d(1),
        nn.Flatten(),
        nn.Linear(4, n_classes),
    )


def scan(shape=SHAPE):
    return Volume(np.random.default_rng(0).random(shape) * 900, LPI, "scan")


def tiny_model(**options):
    return Model(tiny_net(), ["AD", "MCI", "NC"], device="cpu", **options)


def test_predict_is_the_softmax_of_a_direct_call():
    volume = scan()
    net = tiny_net().eval()
    with torch.no_grad():
        x = torch.from_numpy(volume.data / volume.data.max())[None, None]
        expected = net(x).softmax(1)[0].numpy()
    probabilities = tiny_model().predict(volume)
    assert probabilities.dtype == np.float32
    assert probabilities.sum() == pytest.approx(1, abs=1e-6)
    np.testing.assert_allclose(probabilities, expected, rtol=1e-5)


def test_predict_conforms_the_volume_first():
    model = tiny_model(input_spec=InputSpec((8, 8, 8), orientation="RAS", intensity="none"))
    volume = scan()
    seen = volume.data[::-1, ::-1, ::-1][:8, 1:9, 1:9].copy()
    with torch.no_grad():
        expected = tiny_net().eval()(torch.from_numpy(seen)[None, None]).softmax(1)[0]
    np.testing.assert_allclose(model.predict(volume), expected, rtol=1e-4)


def test_predict_leaves_the_network_as_it_was():
    model = tiny_model()
    model.module[1].eval()
    before = {n: t.clone() for n, t in model.module.state_dict().items()}
    flags = [m.training for m in model.module.modules()]
    model.predict(scan())
    assert [m.training for m in model.module.modules()] == flags
    assert all(p.requires_grad and p.grad is None for p in model.module.parameters())
    for name, tensor in model.module.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_logits_of_a_batch_carry_no_graph():
    model = tiny_model()
    x = torch.rand(4, 1, *SHAPE)
    logits = model.logits(x)
    assert logits.shape == (4, 3)
    assert not logits.requires_grad
    torch.testing.assert_close(logits[2:3], model.logits(x[2:3]))


def test_predict_on_a_scan_too_small_for_the_net_is_a_plain_error(plain):
    with pytest.raises(ComputeError) as caught:
        tiny_model().predict(scan((2, 5, 5)))
    plain(caught.value, "2 x 5 x 5 voxels")


def test_class_index_by_name_and_index():
    model = tiny_model()
    assert [model.class_index(name) for name in ("AD", "MCI", "NC")] == [0, 1, 2]
    assert [model.class_index(n) for n in (0, 2, np.int64(1))] == [0, 2, 1]


@pytest.mark.parametrize("target", ["ad", "class 0", "", "1", -1, 3, True, False])
def test_an_unknown_class_is_refused(plain, target):
    with pytest.raises(MethodError) as caught:
        tiny_model().class_index(target)
    assert "0 (AD), 1 (MCI), 2 (NC)" in plain(caught.value, repr(target))


def test_class_names_by_default():
    assert Model(tiny_net(2), device="cpu").class_names == ("class 0", "class 1")


@pytest.mark.parametrize("names", [["AD"], ["a", "b", "c", "d"]])
def test_a_wrong_number_of_class_names_is_refused(plain, names):
    with pytest.raises(MethodError) as caught:
        Model(tiny_net(), names, device="cpu")
    plain(caught.value, f"{len(names)} class names were given for 3 outputs")


def test_a_net_without_a_score_for_each_class_is_refused(plain):
    with pytest.raises(MethodError) as caught:
        Model(tiny_net()[:-1].append(nn.Unflatten(1, (2, 2, 1))), device="cpu")
    plain(caught.value, "an output of 1 x 2 x 2 x 1 values")


def test_a_net_with_one_output_tells_a_class_from_its_absence():
    model = Model(tiny_net(1), ["AD"], device="cpu")
    assert model.class_names == ("not AD", "AD")
    absent, present = model.predict(scan())
    assert absent + present == pytest.approx(1, abs=1e-6)
    logit = model.logits(model.tensor(model.conform(scan()).channels)).item()
    assert present == pytest.approx(1 / (1 + np.exp(-logit)), abs=1e-6)


def test_a_net_that_cannot_take_one_channel_is_a_plain_error(plain):
    with pytest.raises(ComputeError) as caught:
        Model(nn.Sequential(nn.Conv3d(2, 4, 3)), device="cpu")
    plain(caught.value, "takes 2 input channel(s)")


def test_layers_follow_the_input_shape():
    model = tiny_model()
    assert model.input_shape is None
    assert model.target_layers == ["0", "2"]
    assert model.recommended_layer == "2"
    assert model.layer("2", SHAPE).shape == (7, 8, 9)
    assert model.layer("0").shape == (108, 108, 108)
    fixed = tiny_model(input_spec=InputSpec((12, 12, 12)))
    assert fixed.input_shape == (12, 12, 12)
    assert fixed.layer("2", SHAPE).shape == (10, 10, 10)


def test_an_unknown_layer_is_refused_with_those_there_are(plain):
    with pytest.raises(MethodError) as caught:
        tiny_model().layer("conv4c")
    assert plain(caught.value, "'conv4c'").endswith("it has 0, 2.")


@pytest.mark.parametrize("device", ["abacus", "cuda:99"])
def test_an_unknown_device_is_a_plain_error(plain, device):
    with pytest.raises(ComputeError) as caught:
        Model(tiny_net(), device=device)
    plain(caught.value, device)


def test_weights_hash_is_the_same_after_saving_and_loading(tmp_path):
    torch.manual_seed(0)
    model = Model(VoxResNetGAP(), device="cpu")
    before = model.weights_hash()
    saved = save_model(model.module, tmp_path / "net.safetensors", ["a", "b"], InputSpec())
    torch.save(model.module.state_dict(), tmp_path / "net.pt")
    assert load_model(saved, device="cpu").weights_hash() == before
    assert load_model(tmp_path / "net.pt", device="cpu").weights_hash() == before


def test_weights_hash_tells_a_changed_weight():
    model = tiny_model()
    before = model.weights_hash()
    with torch.no_grad():
        model.module[6].bias[0] += 1e-6
    assert model.weights_hash() != before
