import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from napari_cnnvis.explain.scoring.incremental.classify import classify
from napari_cnnvis.explain.scoring.incremental.engine import IncrementalScorer
from napari_cnnvis.explain.scoring.incremental.trace import CannotTrace, trace
from napari_cnnvis.models.scores import Part, Reading

READING = Reading(Part("", (1, 2)))  # two classes

SHAPE = (9, 10, 11)
HEAD = ["GlobalPool", "Whole", "Whole"]


def kinds(program):
    return [type(operation).__name__ for operation in program.operations]


def conv(inputs=1, outputs=4, kernel=3, **options):
    return nn.Conv3d(inputs, outputs, kernel, **options)


def batch_free(program):
    """Kinds without the batch size, which functional code asks for."""
    return [kind for kind in kinds(program) if kind != "BatchSize"]


LAYERS = {
    "conv": (conv(4), "Windowed"),
    "strided conv": (conv(4, stride=(2, 1, 3)), "Windowed"),
    "dilated conv": (conv(4, dilation=2), "Windowed"),
    "grouped conv": (conv(4, groups=2), "Windowed"),
    "depthwise conv": (conv(4, groups=4, padding=1, bias=False), "Windowed"),
    "padding same": (conv(4, kernel=(3, 5, 1), padding="same"), "Windowed"),
    "padding valid": (conv(4, padding="valid"), "Windowed"),
    "reflecting conv": (conv(4, padding=1, padding_mode="reflect"), "Whole"),
    "transposed conv": (nn.ConvTranspose3d(4, 4, 2, stride=2), "Whole"),
    "max pool": (nn.MaxPool3d(2), "Windowed"),
    "max pool with ceil_mode": (nn.MaxPool3d(3, 2, 1, ceil_mode=True), "Windowed"),
    "dilated max pool": (nn.MaxPool3d(2, 1, 1, dilation=2), "Windowed"),
    "average pool": (nn.AvgPool3d(3, 2, 1), "Windowed"),
    "average pool of what is there": (nn.AvgPool3d(3, 2, 1, count_include_pad=False), "Whole"),
    "unpadded average pool": (nn.AvgPool3d(2, count_include_pad=False), "Windowed"),
    "average pool over the edge": (nn.AvgPool3d(2, ceil_mode=True), "Whole"),
    "sum pool": (nn.AvgPool3d(2, divisor_override=1), "Windowed"),
    "constant padding": (nn.ConstantPad3d((1, 0, 2, 1, 0, 3), 1.5), "Windowed"),
    "zero padding": (nn.ZeroPad3d(1), "Windowed"),
    "cropping": (nn.ConstantPad3d(-1, 0.0), "Windowed"),
    "reflection padding": (nn.ReflectionPad3d(1), "Whole"),
    "batch norm": (nn.BatchNorm3d(4), "BatchNorm"),
    "plain batch norm": (nn.BatchNorm3d(4, affine=False), "BatchNorm"),
    "batch norm without statistics": (nn.BatchNorm3d(4, track_running_stats=False), "Whole"),
    "group norm": (nn.GroupNorm(2, 4), "Whole"),
    "instance norm": (nn.InstanceNorm3d(4), "Whole"),
    "upsampling": (nn.Upsample(scale_factor=2), "Whole"),
    "ReLU": (nn.ReLU(), "Pointwise"),
    "ReLU in place": (nn.ReLU(inplace=True), "Pointwise"),
    "LeakyReLU": (nn.LeakyReLU(0.1, inplace=True), "Pointwise"),
    "PReLU": (nn.PReLU(4), "Pointwise"),
    "SiLU": (nn.SiLU(), "Pointwise"),
    "GELU": (nn.GELU(), "Pointwise"),
    "ELU": (nn.ELU(), "Pointwise"),
    "Hardswish": (nn.Hardswish(), "Pointwise"),
    "softmax over channels": (nn.Softmax(1), "Pointwise"),
}


@pytest.mark.parametrize("name", LAYERS)
def test_kind_of_layer(program_of, gap_net, name):
    layer, expected = LAYERS[name]
    program = program_of(gap_net([conv(), layer], 4), SHAPE)
    assert kinds(program)[:2] == ["Windowed", expected]
    follows = HEAD if expected != "Whole" else ["Whole"] * 3
    assert kinds(program)[2:] == follows or "padding" in name or "reflecting" in name


POOLS = {
    "adaptive average": lambda x: F.adaptive_avg_pool3d(x, 1).flatten(1),
    "mean": lambda x: x.mean((2, 3, 4)),
    "mean, from the end": lambda x: x.mean((-1, -2, -3)),
    "mean, axes kept": lambda x: x.mean((2, 3, 4), keepdim=True).flatten(1),
    "amax": lambda x: x.amax((2, 3, 4)),
    "max pool as large as the map": lambda x: F.max_pool3d(x, x.shape[2:]).flatten(1),
    "average pool as large as the map": lambda x: F.avg_pool3d(x, x.shape[2:]).flatten(1),
}


@pytest.mark.parametrize("name", POOLS)
def test_global_pools(program_of, calls, name):
    program = program_of(calls(lambda x, c: POOLS[name](c(x)), conv()), SHAPE)
    assert kinds(program)[:2] == ["Windowed", "GlobalPool"]


PARTIAL_POOLS = {
    "mean over two axes": lambda x: x.mean((2, 3)).mean(2),
    "mean over channels, too": lambda x: x.mean((1, 2, 3, 4))[:, None].expand(-1, 2),
    "mean of another type": lambda x: x.mean((2, 3, 4), dtype=torch.float64),
    "sum, written as a mean": lambda x: F.avg_pool3d(x, x.shape[2:], divisor_override=7).flatten(1),
    "pool to two positions": lambda x: F.adaptive_avg_pool3d(x, (2, 1, 1)).flatten(1),
}


@pytest.mark.parametrize("name", PARTIAL_POOLS)
def test_what_only_looks_like_a_global_mean(program_of, calls, name):
    program = program_of(calls(lambda x, c: PARTIAL_POOLS[name](c(x)), conv()), SHAPE)
    assert "GlobalPool" not in kinds(program)


JOINS = {
    "add": lambda a, b: a + b,
    "add in place": lambda a, b: F.relu(a).add_(b),
    "weighted add": lambda a, b: torch.add(a, b, alpha=0.5),
    "subtract": lambda a, b: a - b,
    "multiply": lambda a, b: a * torch.sigmoid(b),
    "maximum": torch.maximum,
    "cat": lambda a, b: torch.cat([a, b, a], 1),
    "concat": lambda a, b: torch.concat([a, b], dim=-4),
}


@pytest.mark.parametrize("name", JOINS)
def test_joins_of_branches_need_no_whole_maps(program_of, calls, name):
    net = calls(lambda x, a, b: JOINS[name](a(x), b(x)).mean((2, 3, 4)), conv(), conv(dilation=1))
    found = batch_free(program_of(net, SHAPE))
    assert found[:3] in (
        ["Windowed", "Windowed", "Pointwise"],
        ["Windowed", "Pointwise", "Windowed"],
    )
    assert found[-1] == "GlobalPool"
    assert "Whole" not in found


def test_joins_with_something_else_than_a_map_need_whole_maps(program_of, calls):
    ramp = torch.linspace(0, 1, 9)
    nets = [
        calls(lambda x, c: (c(x) * ramp).mean((2, 3, 4)), conv()),
        calls(lambda x, c: torch.cat([(y := c(x)), y * 0 + ramp], 2).mean((2, 3, 4)), conv()),
        calls(lambda x, c: (c(x) - x.mean((2, 3, 4), keepdim=True)).mean((2, 3, 4)), conv()),
    ]
    for net in nets:
        assert kinds(program_of(net, SHAPE))[-1] == "Whole"


def test_a_number_for_each_channel_is_pointwise(program_of, calls):
    scale = torch.rand(1, 4, 1, 1, 1)
    net = calls(lambda x, c: (2 * c(x) * scale + 1).mean((2, 3, 4)), conv())
    assert kinds(program_of(net, SHAPE)) == ["Windowed"] + ["Pointwise"] * 3 + ["GlobalPool"]


def test_dropout_and_other_idle_operations_are_handed_on(program_of, gap_net, calls):
    idle = [nn.Dropout3d(0.5), nn.Dropout(0.2, inplace=True), nn.AlphaDropout(), nn.Identity()]
    assert kinds(program_of(gap_net([conv(), *idle], 4), SHAPE)) == ["Windowed", *HEAD]
    net = calls(lambda x, c: c(x.float().contiguous()).to(x).clone().amax((2, 3, 4)), conv())
    assert kinds(program_of(net, SHAPE)) == ["Windowed", "GlobalPool"]


def test_the_logits_may_be_handed_on(program_of, gap_net, calls):
    net = calls(lambda x, net: net(x).clone(), gap_net([conv()], 4))
    program = program_of(net, SHAPE)
    assert program.output is program.operations[-1].node
    assert program.output is not program.trace.output


def test_a_change_from_one_floating_type_to_another_is_left_out(program_of, calls):
    net = calls(lambda x, c: c(x).double().mean((2, 3, 4)), conv())
    assert kinds(program_of(net, SHAPE)) == ["Windowed", "Whole"]


def test_a_change_to_whole_numbers_is_computed(program_of, calls):
    net = calls(lambda x, c: (8 * c(x)).int().float().mean((2, 3, 4)), conv())
    assert len(program_of(net, SHAPE).operations) == 5


def test_convolutions_of_one_voxel_keep_nothing(program_of, gap_net):
    program = program_of(
        gap_net([conv(), conv(4, kernel=1), conv(4, kernel=1, stride=2)], 4), SHAPE
    )
    first, one, strided = (operation.keeps() for operation in program.operations[:3])
    assert [len(first), len(one), len(strided)] == [1, 0, 1]


def test_weights_that_are_computed_are_computed_once(program_of, gap_net):
    net = gap_net([nn.utils.parametrizations.weight_norm(conv())], 4).eval()
    assert kinds(program_of(net, SHAPE)) == ["Windowed", *HEAD]


def squeeze_excite(x, first, squeeze, second):
    y = first(x)
    gate = torch.sigmoid(squeeze(y.mean((2, 3, 4))))
    return second(y * gate[:, :, None, None, None]).mean((2, 3, 4))


def test_mixing_names_where_whole_maps_begin_though_much_work_is_ahead(program_of, gap_net, calls):
    net = calls(squeeze_excite, conv(), nn.Linear(4, 4), conv(4))
    assert program_of(net, SHAPE).mixing().node.target is torch.ops.aten.mul.Tensor
    normed = program_of(gap_net([conv(), nn.GroupNorm(2, 4), conv(4)], 4), SHAPE)
    assert normed.mixing() is normed.operations[1]


def test_nothing_mixes_if_only_the_head_needs_whole_maps(program_of, gap_net):
    assert program_of(gap_net([conv(), nn.ReLU(), conv(4)], 4), SHAPE).mixing() is None
    late = gap_net([conv(), conv(4), nn.GroupNorm(2, 4)], 4)
    assert program_of(late, SHAPE).mixing() is None


def test_work_of_a_full_pass_counts_multiply_adds(program_of, gap_net):
    program = program_of(gap_net([conv(), conv(4, 6, groups=2), nn.MaxPool3d(2)], 6), SHAPE)
    expected = 7 * 8 * 9 * 27 * 4 + 5 * 6 * 7 * 27 * 2 * 6 + 6 * 2
    assert program.work == expected


def bright_or_dark(x, c):
    return c(x if x.sum() > 0 else -x).mean((2, 3, 4))


REFUSED = {
    "depends on values": (bright_or_dark, "cannot be traced"),
    "maps only": (lambda x, c: (c(x), c(x) + 1), "one row of scores"),
    "a map": (lambda x, c: c(x), "one row of scores"),
    "a number": (lambda x, c: c(x).mean(), "one row of scores"),
    "always two rows": (lambda x, c: c(x).reshape(2, 4, -1).mean(2), "one fixed batch size"),
    "fails": (lambda x, c: c(x[:, 0]), "cannot be traced"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(program_of, calls, name):
    function, reason = REFUSED[name]
    with pytest.raises(CannotTrace, match=reason) as caught:
        program_of(calls(function, conv(bias=False)), SHAPE)
    assert "\n" not in str(caught.value)


WRAPPED = {
    "tuple": lambda maps, scores: (scores, maps),
    "second": lambda maps, scores: [maps, scores],
    "dictionary": lambda maps, scores: {"maps": maps, "logits": scores},
    "trailing axes": lambda maps, scores: scores[..., None, None, None],
}


@pytest.mark.parametrize("name", WRAPPED)
def test_scores_are_found_in_whatever_the_network_gives(
    calls, clean_of, occlusions_in, full_passes, in_order, program_of, name
):
    def wrapped(x, c):
        return WRAPPED[name](c(x), c(x).mean((2, 3, 4)))

    part, clean, occlusions = conv(), clean_of(SHAPE), occlusions_in(SHAPE)
    plain = calls(lambda x, c: c(x).mean((2, 3, 4)), part)
    expected = full_passes(plain, clean, occlusions)
    scorer = IncrementalScorer(program_of(calls(wrapped, part), SHAPE), clean)
    np.testing.assert_allclose(in_order(scorer, occlusions), expected, atol=1e-5)


def test_a_network_that_counts_its_passes_is_refused(program_of, calls):
    def count(x, c, norm):
        norm.num_batches_tracked.add_(1)
        return c(x).mean((2, 3, 4))

    with pytest.raises(CannotTrace, match="changes its own buffers"):
        program_of(calls(count, conv(), nn.BatchNorm3d(4)), SHAPE)


@pytest.mark.parametrize("fails", [False, True])
def test_tracing_leaves_the_module_as_it_was(busy_net, state_of, calls, fails):
    before = state_of(busy_net)
    if fails:
        with pytest.raises(CannotTrace):
            trace(busy_net, torch.zeros(1, 3, *SHAPE), READING)
    else:
        traced = trace(busy_net, torch.zeros(1, 1, *SHAPE), READING)
        assert kinds(classify(traced))[:3] == ["Windowed", "BatchNorm", "Pointwise"]
    assert state_of(busy_net) == before


def test_constants_are_the_networks_own_weights(gap_net):
    net = gap_net([conv()], 4)
    held = {t.data_ptr() for t in trace(net, torch.zeros(1, 1, *SHAPE), READING).constants.values()}
    assert held == {p.data_ptr() for p in net.parameters()}


def functional(x, first, norm, second, head):
    x = first(x)
    y = F.relu_(norm(x))
    y = second(y)
    y += x
    y = F.silu(y, inplace=True)
    y *= 2
    return head(torch.cat([y, F.leaky_relu_(x, 0.1)], 1))


@pytest.fixture
def in_place_net(lively, calls, gap_net):
    parts = conv(), nn.BatchNorm3d(4), conv(4, padding=1), gap_net([], 8)
    return lively(calls(functional, *parts))


def test_functions_that_write_in_place_stay_what_they_are(program_of, in_place_net):
    found = batch_free(program_of(in_place_net, SHAPE))
    expected = ["Windowed", "BatchNorm", "Pointwise", "Windowed"] + ["Pointwise"] * 5
    assert found == [*expected, *HEAD]


def test_functions_that_write_in_place_give_what_full_passes_give(
    program_of, in_place_net, clean_of, occlusions_in, full_passes, in_order
):
    clean, occlusions = clean_of(SHAPE), occlusions_in(SHAPE)
    expected = full_passes(in_place_net, clean, occlusions)
    scorer = IncrementalScorer(program_of(in_place_net, SHAPE), clean)
    np.testing.assert_allclose(in_order(scorer, occlusions), expected, atol=1e-5)
