import pytest
import torch
from torch import nn

from napari_cnnvis.errors import ComputeError, MethodError
from napari_cnnvis.explain.layers.capture import run_and_capture
from napari_cnnvis.models.scores import Part, Reading

READING = Reading(Part("", (1, 2)))  # two classes

X = torch.rand(1, 1, 7, 7, 7)


def graph_nodes(tensor):
    found, waiting = [], [tensor.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in found:
            found.append(node)
            waiting += [following for following, _ in node.next_functions]
    return found


def leaves_of(tensor):
    return [n.variable for n in graph_nodes(tensor) if hasattr(n, "variable")]


def test_graph_begins_at_the_layer(busy_net):
    logits, outputs = run_and_capture(busy_net, READING, X, ["4"], with_graph=True)
    assert outputs["4"].grad_fn is None
    (leaf,) = leaves_of(logits)
    assert leaf is outputs["4"]


def test_graph_of_several_layers_begins_at_the_first(busy_net):
    logits, outputs = run_and_capture(busy_net, READING, X, ["5", "0"], with_graph=True)
    (leaf,) = leaves_of(logits)
    assert leaf is outputs["0"]
    assert outputs["5"].grad_fn is not None


def test_no_graph_unless_asked_for(busy_net):
    logits, outputs = run_and_capture(busy_net, READING, X, ["4"], with_graph=False)
    assert not logits.requires_grad
    assert not outputs["4"].requires_grad


def test_outputs_are_those_of_evaluation_mode(busy_net):
    logits, outputs = run_and_capture(busy_net, READING, X, ["0", "2", "4"], with_graph=True)
    busy_net.eval()
    with torch.no_grad():
        for name in ("0", "2", "4"):
            expected = busy_net[: int(name) + 1](X)
            torch.testing.assert_close(outputs[name].detach(), expected)
        torch.testing.assert_close(logits.detach(), busy_net(X))


class Overwriting(nn.Module):
    """Two convolutions whose outputs a functional in-place ReLU overwrites."""

    def __init__(self):
        super().__init__()
        self.a = nn.Conv3d(1, 3, 3)
        self.b = nn.Conv3d(3, 3, 3)
        self.prob = nn.Linear(3, 2)

    def forward(self, x):
        x = nn.functional.relu(self.a(x), inplace=True)
        x = nn.functional.relu(self.b(x), inplace=True)
        return self.prob(x.mean((2, 3, 4)))


@pytest.mark.parametrize("with_graph", [True, False])
@pytest.mark.parametrize("names", [["a"], ["b"], ["a", "b"]])
def test_outputs_survive_overwriting(names, with_graph):
    net = Overwriting()
    _, outputs = run_and_capture(net, READING, X, names, with_graph)
    with torch.no_grad():
        a = net.a(X)
        expected = {"a": a, "b": net.b(a.relu())}
    for name in names:
        assert (outputs[name] < 0).any()
        torch.testing.assert_close(outputs[name].detach(), expected[name])


def test_layer_that_does_not_run(state_of):
    net = nn.Sequential(nn.Conv3d(1, 2, 3), nn.AdaptiveAvgPool3d(1), nn.Flatten())
    net.unused = nn.Identity()
    net.forward = lambda x: net[2](net[1](net[0](x)))
    before = state_of(net)
    with pytest.raises(MethodError, match="did not run its layer unused"):
        run_and_capture(net, READING, X, ["unused"], with_graph=True)
    assert state_of(net) == before


def test_model_is_left_as_found(busy_net, state_of):
    before = state_of(busy_net)
    run_and_capture(busy_net, READING, X, ["2", "4"], with_graph=True)
    assert state_of(busy_net) == before


def test_model_is_left_as_found_after_a_failure(busy_net, state_of):
    busy_net.append(nn.Linear(99, 2))
    before = state_of(busy_net)
    with pytest.raises(ComputeError):
        run_and_capture(busy_net, READING, X, ["2", "4"], with_graph=True)
    assert state_of(busy_net) == before
