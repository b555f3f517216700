"""Nothing is fetched while a network is made."""

import http.server
import sys
import threading

import pytest
import torch

from napari_cnnvis.errors import CheckpointError
from napari_cnnvis.models.checkpoint import load_model
from napari_cnnvis.models.doctor import examine_checkpoint
from napari_cnnvis.models.networks.factories import parse_architecture

from .named_networks import in_bundle, in_header, in_sidecar, state

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
