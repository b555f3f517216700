"""Whatever names a network, and wherever the name comes from: nothing runs, nothing is fetched."""

import http.server
import json
import sys
import threading
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import napari_cnnvis as cv
from napari_cnnvis.cli import main
from napari_cnnvis.errors import CheckpointError, CnnVisError
from napari_cnnvis.models.cache import CheckpointCache
from napari_cnnvis.models.checkpoint import load_model
from napari_cnnvis.models.doctor import examine_checkpoint
from napari_cnnvis.models.formats.checkpoint_file import HEADER_KEY
from napari_cnnvis.models.networks.allowed import is_allowed
from napari_cnnvis.models.networks.factories import NeedsTrust, parse_architecture
from napari_cnnvis.models.networks.vox import VoxVGG
from napari_cnnvis.models.settings import Recipe, file_hash, remember

#: what a file or a user may write for an architecture, each of which would leave a canary
HOSTILE = [
    "os:system('touch {canary}')",
    "os:mkdir('{canary}')",
    "posix:mkdir('{canary}')",
    "subprocess:run(['touch', '{canary}'])",
    "subprocess:Popen(['touch', '{canary}'])",
    'builtins:exec(\'open("{canary}", "w")\')',
    'builtins:eval(\'open("{canary}", "w")\')',
    "builtins:open('{canary}', 'w')",
    "pathlib:Path.touch('{canary}')",
    "shutil:copy('{folder}/evil.py', '{canary}')",
    "runpy:run_path('{folder}/evil.py')",
    "torch:load('{folder}/evil.pkl', weights_only=False)",
    "torch:save({{}}, '{canary}')",
    "torch.hub:load('{folder}', 'evil', source='local', trust_repo=True)",
    "torch.serialization:save({{}}, '{canary}')",
    "monai.networks.nets.resnet:Path('{canary}')",
    "monai.networks.nets:torch.save({{}}, '{canary}')",
    "monai.networks.nets.efficientnet:model_zoo.load_url('file://{folder}/evil.pkl')",
    "monai.networks.nets:HoVerNet(pretrained_url='file://{folder}/evil.pkl')",
    "monai.networks.nets:HoVerNet('FAST', 3, 2, 0, 'relu', 'batch', False, 0.0, 'file://{folder}/evil.pkl')",
    "monai.networks.nets.hovernet:_remap_preact_resnet_model('file://{folder}/evil.pkl')",
    "napari_cnnvis.models.checkpoint:load_model('{folder}/evil.pkl', trust=True)",
    "napari_cnnvis.models.formats.checkpoint_file:write_safetensors('{canary}', {{}}, {{}})",
    "napari_cnnvis.scan.volume:atomic_path('{canary}')",
    "{folder}/evil.py:Net()",
    "{folder}/evil.py:os.mkdir('{canary}')",
]
#: importing this module is enough; the user may do that, a file may not
FROM_FILES = [*HOSTILE, "evil_cnnvis_module:Net()", "evil_cnnvis_module.part:Net()"]


class _Evil:
    def __init__(self, canary):
        self.canary = canary

    def __reduce__(self):
        import os

        return os.mkdir, (self.canary,)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Files that leave a canary when they are run, imported or unpickled."""
    canary = tmp_path / "canary"
    leave = f"import os\nos.makedirs({str(canary)!r}, exist_ok=True)\n"
    for name in ("evil.py", "evil_cnnvis_module.py", "hubconf.py"):
        (tmp_path / name).write_text(leave)
    torch.save(_Evil(str(canary)), tmp_path / "evil.pkl")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    sys.modules.pop("evil_cnnvis_module", None)
    assert not canary.exists()


def state():
    return {"conv.weight": torch.ones(2, 1, 3, 3, 3)}


def hostile(text, folder):
    return text.format(canary=folder / "canary", folder=folder)


def in_header(text, folder):
    header = json.dumps({"architecture": text})
    save_file(state(), folder / "net.safetensors", metadata={HEADER_KEY: header})
    return folder / "net.safetensors"


def in_sidecar(text, folder):
    torch.save(state(), folder / "net.pt")
    (folder / "net.json").write_text(json.dumps({"architecture": text}))
    return folder / "net.pt"


def in_bundle(text, folder):
    """As a bundle spells it: the dotted name of what is called, and its arguments."""
    factory = parse_architecture(text)
    dotted = ".".join(filter(None, (factory.place.removesuffix(".py"), factory.name)))
    network = {"_target_": dotted.replace("/", "."), **factory.keywords}
    network |= {f"a{n}": value for n, value in enumerate(factory.arguments)}
    bundle = folder / "bundle"
    (bundle / "configs").mkdir(parents=True)
    (bundle / "models").mkdir()
    (bundle / "configs/metadata.json").write_text("{}")
    (bundle / "configs/inference.json").write_text(json.dumps({"network_def": network}))
    torch.save(state(), bundle / "models/model.pt")
    return bundle


def in_zipped_bundle(text, folder):
    bundle = in_bundle(text, folder)
    with zipfile.ZipFile(folder / "bundle.zip", "w") as archive:
        for path in bundle.rglob("*.*"):
            archive.write(path, path.relative_to(folder))
    return folder / "bundle.zip"


def in_maps(text, folder):
    best = folder / "maps/split-0/best-loss"
    best.mkdir(parents=True)
    training = {"network_task": "classification", "architecture": text, "input_size": [1, 9, 9, 9]}
    (folder / "maps/maps.json").write_text(json.dumps(training))
    torch.save({"model": state()}, best / "model.pth.tar")
    return folder / "maps"


@pytest.mark.parametrize("text", FROM_FILES)
@pytest.mark.parametrize("place", [in_header, in_sidecar, in_bundle, in_zipped_bundle, in_maps])
def test_what_a_file_names_is_not_run(folder, plain, place, text):
    path = place(hostile(text, folder), folder)
    with pytest.raises(CheckpointError) as caught:
        load_model(path, "cpu")
    assert len(plain(caught.value)) < 900
    assert examine_checkpoint(path, device="cpu").problem
    assert "evil_cnnvis_module" not in sys.modules


@pytest.mark.parametrize("text", FROM_FILES)
def test_what_was_remembered_or_recorded_is_not_run(folder, plain, text):
    torch.save(state(), folder / "net.pt")
    recipe = Recipe(hostile(text, folder))
    remember(file_hash(folder / "net.pt"), Recipe(recipe.arch, arch_by_user=True))
    for given in (None, recipe):  # what was remembered; what "Run again" takes from a record
        with pytest.raises(CheckpointError) as caught:
            CheckpointCache().load(folder / "net.pt", given, device="cpu")
        plain(caught.value)
    assert "evil_cnnvis_module" not in sys.modules


@pytest.mark.parametrize("text", HOSTILE)
def test_what_the_user_types_is_looked_at_before_it_is_called(folder, plain, text, capsys):
    torch.save(state(), folder / "net.pt")
    arch = hostile(text, folder)
    with pytest.raises(CheckpointError) as caught:
        load_model(folder / "net.pt", "cpu", arch)
    plain(caught.value)
    cv.write_volume(cv.Volume(np.ones((9, 9, 9))), folder / "s.nii")
    net, output = str(folder / "net.pt"), str(folder / "m.nii")
    assert main(["info", net, "--arch", arch]) != 0
    assert main(["explain", str(folder / "s.nii"), "--model", net, "--arch", arch, "-o", output])
    assert "Traceback" not in "".join(capsys.readouterr())


@pytest.mark.parametrize("text", ["os:system('touch {canary}')", "{folder}/evil.py:Net()"])
def test_training_makes_classes_of_networks_only(folder, plain, text):
    from napari_cnnvis.training.start_networks import NetworkPlan

    with pytest.raises(CheckpointError) as caught:
        NetworkPlan(hostile(text, folder), 2).make(torch.zeros(1, 1, 9, 9, 9))
    plain(caught.value)


def test_trust_says_what_it_is_needed_for(folder):
    with pytest.raises(NeedsTrust, match="trust=True") as caught:
        load_model(in_header("evil_cnnvis_module:Net(3)", folder), "cpu")
    assert caught.value.suggestion == "evil_cnnvis_module:Net(3)"


# --- the lists ---------------------------------------------------------------------------


def test_only_networks_are_on_the_list():
    nets = pytest.importorskip("monai.networks.nets")
    assert is_allowed(nets.DenseNet121)
    assert is_allowed(nets.resnet18)
    assert is_allowed(VoxVGG)
    assert not is_allowed(nets.HoVerNet)
    assert not is_allowed(nets.TorchVisionFCModel)
    assert not is_allowed(nets.drop_connect)
    assert not is_allowed(nn.Linear)
    assert not is_allowed(VoxVGG.forward)
    assert not is_allowed(VoxVGG())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("spatial_dims=3, in_channels=1, out_channels=2, cache_dir='x'", "'cache_dir'"),
        ("spatial_dims=3, in_channels=1, out_channels=2, norm='a/b'", "no plain word"),
        ("spatial_dims=3, in_channels=1, out_channels=2, norm='http://a'", "no plain word"),
        (
            "spatial_dims=3, in_channels=1, out_channels=2, norm=('batch', {'x': '../a'})",
            "no plain",
        ),
        ("spatial_dims=3, in_channels=1, out_channels=2, norm=('batch', {'a/b': 1})", "no plain"),
        ("spatial_dims=3, in_channels=1, out_channels=2, norm=b'batch'", "no plain word"),
        ("spatial_dims=3, in_channels=10**9, out_channels=2", "plain values"),
        ("spatial_dims=3, in_channels=1000000000, out_channels=2", "larger than any network"),
        ("spatial_dims=3, in_channels=1e999, out_channels=2", "larger than any network"),
        (f"3, 1, 2, block_config={[1] * 1001}", "larger than any network"),
        ("3, 1, 2, 64, 32, (6,), 4, 'a', 'b', 'c', 'd'", "cannot be built"),
    ],
)
def test_arguments_that_a_network_has_no_use_for_are_refused(plain, arguments, words):
    pytest.importorskip("monai.networks.nets")
    for by_user in (True, False):
        with pytest.raises(CheckpointError) as caught:
            text = f"monai.networks.nets:DenseNet121({arguments})"
            parse_architecture(text).build(by_user=by_user)
        assert words in plain(caught.value)
        assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    "text",
    [
        "DenseNet121(3, 1, 2, 64, 32, (1, 1, 1, 1), True)",
        "densenet121(spatial_dims=3, in_channels=1, out_channels=2, pretrained=True)",
        "resnet10(True, False, spatial_dims=3, n_input_channels=1, num_classes=2)",
        "EfficientNetBN('efficientnet-b0', spatial_dims=3, in_channels=1, num_classes=2)",
        "EfficientNetBN('efficientnet-b0', in_channels=3, num_classes=2)",
        "SEResNet50(spatial_dims=3, in_channels=1, num_classes=2, pretrained=True)",
    ],
)
def test_weights_are_never_downloaded(monkeypatch, text):
    pytest.importorskip("monai.networks.nets")
    for name in ("download_url_to_file", "load_state_dict_from_url"):
        monkeypatch.setattr(f"torch.hub.{name}", lambda *a, **k: pytest.fail("a download"))
    for by_user in (True, False):
        made = parse_architecture(f"monai.networks.nets:{text}").build(by_user=by_user)
        assert isinstance(made, nn.Module)


# --- no request ----------------------------------------------------------------------------

FETCHING = """
import http.client, socket, urllib.request
import torch
from torch import nn

class Fetching(nn.Module):
    def __init__(self, url="{url}", pretrained=True):
        super().__init__()
        if pretrained:
            self.fetch("{url}")

class Opener(Fetching):
    def fetch(self, url):
        urllib.request.urlopen(url, timeout=5)

class Retrieve(Fetching):
    def fetch(self, url):
        urllib.request.urlretrieve(url)

class Hub(Fetching):
    def fetch(self, url):
        torch.hub.load_state_dict_from_url(url, progress=False)

class Client(Fetching):
    def fetch(self, url):
        http.client.HTTPConnection("127.0.0.1", {port}, timeout=5).request("GET", "/weights")

class Socket(Fetching):
    def fetch(self, url):
        socket.create_connection(("127.0.0.1", {port}), timeout=5).sendall(b"GET / HTTP/1.0\\r\\n\\r\\n")

class Tries(Fetching):
    def fetch(self, url):
        for _ in range(3):
            try:
                urllib.request.urlopen(url, timeout=5)
            except Exception:
                pass

def make(pretrained=True):
    return Opener(pretrained=pretrained)
"""


@pytest.fixture
def server(folder, monkeypatch):
    """A server on this machine that keeps the requests it sees, and a module that asks it."""
    seen = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            seen.append(self.path)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            """Say nothing."""

    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=httpd.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    port = httpd.server_address[1]
    httpd.url, httpd.seen = f"http://127.0.0.1:{port}/weights.pth", seen
    source = FETCHING.replace("{url}", httpd.url).replace("{port}", str(port))
    (folder / "fetching_cnnvis.py").write_text(source)
    yield httpd
    httpd.shutdown()
    thread.join(10)
    httpd.server_close()
    sys.modules.pop("fetching_cnnvis", None)


def test_the_server_sees_requests(server):
    """Without this the next tests could not fail."""
    import urllib.request

    urllib.request.urlopen(server.url, timeout=10).close()
    assert server.seen == ["/weights.pth"]


ASKING = [
    "monai.networks.nets:HoVerNet(pretrained_url='{url}')",
    "monai.networks.nets:HoVerNet('FAST', 3, 2, 0, 'relu', 'batch', False, 0.0, '{url}')",
    "monai.networks.nets.hovernet:_remap_preact_resnet_model('{url}')",
    "torch.hub:load_state_dict_from_url('{url}')",
    "torch.hub:download_url_to_file('{url}', 'x')",
    "urllib.request:urlopen('{url}')",
]
BUILDS = ["Opener()", "Retrieve()", "Hub()", "Client()", "Socket()", "make()"]


@pytest.mark.parametrize("text", ASKING)
@pytest.mark.parametrize("place", [in_header, in_sidecar, in_bundle])
def test_a_file_fetches_nothing(server, folder, plain, place, text):
    path = place(text.format(url=server.url), folder)
    with pytest.raises(CheckpointError) as caught:
        load_model(path, "cpu")
    plain(caught.value)
    examine_checkpoint(path, device="cpu")
    assert server.seen == []
    assert not list((folder / "torch").rglob("*.pth"))


@pytest.mark.parametrize("trust", [False, True])
@pytest.mark.parametrize("text", [*ASKING[:3], *(f"fetching_cnnvis:{b}" for b in BUILDS)])
def test_the_user_fetches_nothing_either(server, folder, plain, text, trust):
    torch.save(state(), folder / "net.pt")
    with pytest.raises(CheckpointError) as caught:
        load_model(folder / "net.pt", "cpu", text.format(url=server.url), trust=trust)
    plain(caught.value)
    assert server.seen == []


def test_code_that_hides_its_failures_fetches_nothing(server):
    assert parse_architecture("fetching_cnnvis:Tries()").build() is not None
    assert server.seen == []


def test_other_code_may_use_the_network_meanwhile(server):
    """Only the thread that makes a network is cut off, and only for that long."""
    import urllib.request

    from napari_cnnvis.models.networks.offline import NetworkAccess, offline

    def elsewhere():
        urllib.request.urlopen(server.url, timeout=10).close()

    with offline():
        other = threading.Thread(target=elsewhere)
        other.start()
        other.join(20)
        with pytest.raises(NetworkAccess):
            elsewhere()
    elsewhere()
    assert len(server.seen) == 2


# --- how large -----------------------------------------------------------------------------

GIANTS = [
    "monai.networks.nets:DenseNet121(spatial_dims=3, in_channels=1, out_channels=2, init_features=20000)",
    "monai.networks.nets:DenseNet(3, 1, 2, block_config=(60000, 60000))",
    "monai.networks.nets:ViT(in_channels=1, img_size=96, patch_size=16, num_layers=60000)",
    "monai.networks.nets:UNet(3, 1, 2, (60000, 60000), (2, 2))",
    "VoxVGG(n_classes=60000, in_channels=60000)",
    "VoxVGG(shape=[60000, 60000, 60000])",
]


@pytest.mark.parametrize("text", GIANTS)
@pytest.mark.parametrize("place", [in_header, in_sidecar])
def test_a_network_far_larger_than_its_file_is_not_made(folder, plain, place, text):
    with pytest.raises(CheckpointError) as caught:
        load_model(place(text, folder), "cpu")
    plain(caught.value)


def test_a_network_of_many_layers_ends_at_once():
    """However many layers a file asks for, no more are made than its weights can be for."""
    from napari_cnnvis.models.networks.weight_budget import TooLarge, WeightBudget

    made = []
    with pytest.raises(TooLarge), WeightBudget([torch.zeros(2)]):
        while True:
            made.append(nn.Linear(1, 1))
    assert len(made) < 20_000
    with pytest.raises(TooLarge), WeightBudget([torch.zeros(2)]):
        torch.empty(10**14)


def test_a_text_of_a_million_letters_is_not_repeated(folder, plain):
    text = "monai.networks.nets:DenseNet121(norm='" + "a" * 1_000_000 + "')"
    with pytest.raises(CheckpointError) as caught:
        load_model(in_header(text, folder), "cpu")
    assert len(plain(caught.value)) < 500
    with pytest.raises(CnnVisError) as caught:
        load_model(in_header("a" * 1_000_000 + "(", folder), "cpu")
    assert len(plain(caught.value)) < 500
