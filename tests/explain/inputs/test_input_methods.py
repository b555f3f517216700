"""Gradients of the input, and what is made of them: against captum, by their definitions, in every setting."""

import threading
import warnings

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import nn

import napari_cnnvis as cv
from napari_cnnvis.errors import MethodError
from napari_cnnvis.explain.inputs.input_method import InputMethod
from napari_cnnvis.explain.registry import methods

SHAPE = (12, 14, 10)
KEYS = [key for key, method in methods().items() if issubclass(method, InputMethod)]


def network(channels=1, out=2):
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv3d(channels, 6, 3, padding=1), nn.ReLU(), nn.MaxPool3d(2)),
        *(nn.Conv3d(6, 6, 3), nn.ELU(), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(6, out)),
    ).eval()


def scan(seed=0, affine=None):
    data = ndimage.gaussian_filter(np.random.default_rng(seed).random(SHAPE), 1).astype(np.float32)
    data[:3] = 0
    return cv.Volume(data, np.eye(4) if affine is None else affine, "scan")


@pytest.fixture
def net():
    return network()


@pytest.fixture
def model(net):
    return cv.Model(net, ["a", "b"], cv.InputSpec(intensity="none"), device="cpu")


def tensor(volume):
    return torch.from_numpy(volume.data)[None, None]


def plain(given):
    return given[0].sum(0).detach().numpy()


def close(found, expected, tolerance=1e-5):
    np.testing.assert_allclose(found, expected, atol=tolerance * np.abs(expected).max(), rtol=0)


def test_there_are_four():
    assert KEYS == ["gradient", "input-x-gradient", "smoothgrad", "integrated-gradients"]


# --- what they are ----------------------------------------------------------------------------


@pytest.mark.parametrize("target", [0, 1])
@pytest.mark.parametrize("score", ["logit", "probability", "log_prob"])
def test_the_gradient_is_captums(net, model, target, score):
    from captum.attr import InputXGradient, Saliency

    outputs = {
        "logit": lambda x: net(x),
        "probability": lambda x: net(x).softmax(1),
        "log_prob": lambda x: net(x).log_softmax(1),
    }
    volume = scan()
    x = tensor(volume).requires_grad_()
    expected = Saliency(outputs[score]).attribute(x, target, abs=False)
    close(cv.explain(model, volume, "gradient", target=target, score=score).data, plain(expected))
    expected = InputXGradient(outputs[score]).attribute(x, target)
    found = cv.explain(model, volume, "input-x-gradient", target=target, score=score)
    close(found.data, plain(expected))


@pytest.mark.parametrize("baseline", [0.1, 0.3])
def test_integrated_gradients_are_captums(baseline):
    from captum.attr import IntegratedGradients

    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv3d(1, 6, 3), nn.Tanh(), nn.AvgPool3d(2), nn.Flatten(), nn.LazyLinear(2)
    )
    net(torch.zeros(1, 1, *SHAPE))
    model = cv.Model(net, input_spec=cv.InputSpec(SHAPE, intensity="none"), device="cpu")
    volume = scan()
    expected = IntegratedGradients(net).attribute(
        tensor(volume), float(baseline), 1, n_steps=500, internal_batch_size=50
    )
    found = cv.explain(
        model, volume, "integrated-gradients", target=1, baseline=baseline, steps=600
    )
    close(found.data, plain(expected), 0.01)


@pytest.mark.parametrize("baseline", [0, "blur", "noise", "border"])
@pytest.mark.parametrize("score", ["logit", "probability"])
def test_integrated_gradients_add_up_to_the_scores_difference(net, model, baseline, score):
    volume = scan()
    found = cv.explain(
        model, volume, "integrated-gradients", target=1, baseline=baseline, score=score, steps=1100
    )
    assert abs(found.record.values["completeness_error"]) <= 0.01
    assert found.record.values["passes"] <= 1100
    if baseline == 0:
        with torch.no_grad():
            raw = net(torch.cat([tensor(volume), 0 * tensor(volume)]))
        values = raw[:, 1] if score == "logit" else raw.softmax(1)[:, 1]
        assert found.data.sum() == pytest.approx(float(values[0] - values[1]), rel=0.011)


def test_of_several_baselines_the_mean_is_taken(model):
    volume = scan()
    how = {"method": "integrated-gradients", "target": 1, "steps": 40}
    one, two, both = (
        cv.explain(model, volume, baseline=baseline, **how).data
        for baseline in (0, "blur", [0, "blur"])
    )
    close(both, (one + two) / 2)


def test_too_few_steps_are_said():
    class Steep(nn.Module):
        def forward(self, x):
            y = torch.sigmoid(60 * (x.mean((1, 2, 3, 4)) - 0.23))
            return torch.stack([y, -y], 1)

    model = cv.Model(
        Steep(), input_spec=cv.InputSpec(intensity="none"), output="regression", device="cpu"
    )
    how = {"method": "integrated-gradients", "target": 1, "baseline": 0}
    few, many = (cv.explain(model, scan(), steps=steps, **how) for steps in (9, 400))
    assert any("more steps make it smaller" in note for note in few.notes)
    assert not any("more steps" in note for note in many.notes)
    assert abs(many.record.values["completeness_error"]) <= 0.01


@pytest.mark.parametrize("squared", [False, True])
def test_smoothgrad_is_captums_in_the_long_run(net, model, squared):
    from captum.attr import NoiseTunnel, Saliency

    volume = scan()
    deviation = 0.1 * float(volume.data.max())
    torch.manual_seed(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = NoiseTunnel(Saliency(net)).attribute(
            tensor(volume).requires_grad_(),
            nt_type="smoothgrad_sq" if squared else "smoothgrad",
            nt_samples=400,
            stdevs=deviation,
            target=1,
            abs=False,
        )
    found = cv.explain(
        model, volume, "smoothgrad", target=1, noise=0.1, samples=400, squared=squared
    )
    assert np.corrcoef(found.data.ravel(), plain(expected).ravel())[0, 1] > 0.99


def test_the_standard_error_falls_with_the_root_of_the_samples(model):
    few, many = (
        cv.explain(model, scan(), "smoothgrad", target=1, noise=0.3, samples=n) for n in (20, 320)
    )
    ratio = few.record.values["standard_error"] / many.record.values["standard_error"]
    assert 2.5 < ratio < 6.5
    other = cv.explain(model, scan(), "smoothgrad", target=1, noise=0.3, samples=320, seed=1)
    size = np.sqrt((many.data**2).mean())
    off = np.sqrt(((other.data - many.data) ** 2).mean() / 2) / size
    assert off == pytest.approx(many.record.values["standard_error"], rel=0.5)


def test_the_same_seed_gives_the_same_map(model):
    one, two, other = (
        cv.explain(model, scan(), "smoothgrad", target=1, samples=3, seed=seed).data
        for seed in (4, 4, 5)
    )
    np.testing.assert_array_equal(one, two)
    assert np.abs(one - other).max() > 0


# --- what all of them have ------------------------------------------------------------------------


@pytest.mark.parametrize("key", KEYS)
def test_sign_and_smoothing_are_drawn_of_the_kept_values(model, key):
    volume = scan()
    signed = cv.explain(model, volume, key, target=1)
    assert (signed.data < 0).any()
    for how in ({"sign": "absolute"}, {"smooth": 4.0}, {"sign": "absolute", "smooth": 4.0}):
        wanted = cv.explain(model, volume, key, target=1, **how)
        ran = signed.record.request().how
        drawn = ran.replaced(**how).view(1, signed, ran, 1)
        np.testing.assert_array_equal(drawn.data, wanted.data)
        assert drawn.record.values | {"time": 0} == wanted.record.values | {"time": 0}
    np.testing.assert_array_equal(
        cv.explain(model, volume, key, target=1, sign="absolute").data, np.abs(signed.data)
    )
    assert ran.view(0, signed, ran, 1) is None
    assert ran.replaced(score="probability").view(1, signed, ran, 1) is None


@pytest.mark.parametrize("key", KEYS)
def test_channels_are_added_up(key):
    net = network(channels=2)
    model = cv.Model(net, input_spec=cv.InputSpec(intensity="none", channels=2), device="cpu")
    volumes = scan(0), scan(1)
    found = cv.explain(model, volumes, key, target=1)
    assert found.data.shape == SHAPE
    if key == "gradient":
        x = torch.cat([tensor(v) for v in volumes], 1).requires_grad_()
        (expected,) = torch.autograd.grad(net(x)[0, 1], x)
        close(found.data, plain(expected))


@pytest.mark.parametrize("score", ["logit", "probability"])
def test_over_windows_the_gradient_is_that_of_the_mean(score):
    net = network()
    window, volume = (8, 8, 8), scan()
    spec = cv.InputSpec(intensity="none", window=window, overlap=0.5)
    model = cv.Model(net, input_spec=spec, device="cpu")
    x = tensor(volume).requires_grad_()
    raw = model.whole(x)
    value = raw[0, 1] if score == "logit" else raw.softmax(1)[0, 1]
    (expected,) = torch.autograd.grad(value, x)
    found = cv.explain(model, volume, "gradient", target=1, score=score)
    close(found.data, plain(expected))
    whole = cv.explain(model, volume, "integrated-gradients", target=1, baseline=0, score=score)
    assert abs(whole.record.values["completeness_error"]) <= 0.01


@pytest.mark.parametrize("key", KEYS)
def test_maps_come_back_to_the_scans_grid(key):
    turned = np.diag([-2.0, 2, 2, 1])
    volume = scan(affine=turned)
    spec = cv.InputSpec(intensity="none", orientation="RAS", shape=(16, 12, 16), spacing=(2, 2, 2))
    model = cv.Model(network(), input_spec=spec, device="cpu")
    found = cv.explain(model, volume, key, target=1)
    assert found.data.shape == SHAPE
    assert not found.data[:, :1].any()  # cropped away
    assert found.data.any()
    np.testing.assert_array_equal(found.affine, turned)


@pytest.mark.parametrize("key", KEYS)
def test_the_network_is_left_as_it_was(model, net, key):
    net.train()
    net[0].weight.grad = torch.ones_like(net[0].weight)
    before = {k: v.clone() for k, v in net.state_dict().items()}
    cv.explain(model, scan(), key, target=1)
    assert net.training
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert torch.equal(net[0].weight.grad, torch.ones_like(net[0].weight))
    assert all(p.requires_grad for p in net.parameters())


class Cut(nn.Module):
    def __init__(self, how):
        super().__init__()
        self.net, self.how = network(), how

    def forward(self, x):
        if self.how == "detach":
            return self.net[3:](self.net[:3](x).detach())
        if self.how == "no_grad":
            with torch.no_grad():
                y = self.net[:3](x)
            return self.net[3:](y)
        if self.how == "in place":
            return self.net(x.mul_(1))
        return self.net(torch.from_numpy(x.detach().numpy().round()))


@pytest.mark.parametrize("how", ["detach", "no_grad", "in place"])
def test_gradients_that_are_cut_off_are_taken_through(how):
    plain_model = cv.Model(Cut("").net, input_spec=cv.InputSpec(intensity="none"), device="cpu")
    model = cv.Model(Cut(how), input_spec=cv.InputSpec(intensity="none"), device="cpu")
    found = cv.explain(model, scan(), "gradient", target=1)
    close(found.data, cv.explain(plain_model, scan(), "gradient", target=1).data)
    assert any("cuts gradients off" in note for note in found.notes) == (how != "in place")


@pytest.mark.parametrize("key", KEYS)
def test_without_any_gradient_the_remedy_is_said(key, plain):
    model = cv.Model(Cut("numpy"), input_spec=cv.InputSpec(intensity="none"), device="cpu")
    with pytest.raises(MethodError) as caught:
        cv.explain(model, scan(), key, target=1)
    assert "Use sensitivity" in plain(caught.value)


def test_a_saturated_score_says_why_the_map_is_zero():
    net = network()
    with torch.no_grad():
        net[-1].bias.copy_(torch.tensor([200.0, -200.0]))
    model = cv.Model(net, input_spec=cv.InputSpec(intensity="none"), device="cpu")
    found = cv.explain(model, scan(), "gradient", target=1, score="probability")
    assert not found.data.any()
    assert any("Choose the logit" in note for note in found.notes)


# --- cancelling, records --------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["smoothgrad", "integrated-gradients"])
def test_a_cancelled_run_keeps_its_map(model, key):
    cancel, seen = threading.Event(), []

    def progress(step):
        seen.append(step)
        if len(seen) == 3:
            cancel.set()

    found = cv.explain(model, scan(), key, target=1, progress=progress, cancel=cancel)
    assert found.partial
    assert found.data.any()
    assert np.isfinite(found.data).all()
    assert len(seen) in (3, 4)
    assert seen[0].partial.data.any()


@pytest.mark.parametrize("key", KEYS)
def test_saved_and_run_again_from_its_record(model, tmp_path, key):
    found = cv.explain(model, scan(), key, target=1, smooth=3.0)
    found.save(tmp_path / "map.nii.gz")
    again = type(found).load(tmp_path / "map.nii.gz")
    np.testing.assert_allclose(again.data, found.data, atol=1e-6)
    request = again.record.request()
    assert request.how == found.record.request().how
    np.testing.assert_array_equal(cv.explain(model, scan(), request).data, found.data)
    assert key in again.record.script()
