"""Options of the benchmark, and regions by their labels."""

import pytest

from napari_cnnvis.errors import MethodError
from napari_cnnvis.evaluate.benchmark.options import BenchmarkOptions, parse_region


def test_regions_by_their_labels():
    assert parse_region("hippocampus=17,53") == ("hippocampus", (17, 53))
    assert parse_region("the cortex = 1-3, 3,8-9") == ("the cortex", (1, 2, 3, 8, 9))


@pytest.mark.parametrize("text", ["", "a", "a=", "=3", "a=x", "a=0", "a=3-1", "a=1,,2", "a=-3"])
def test_regions_that_are_not_written_well(text, plain):
    with pytest.raises(MethodError, match="does not say which labels") as caught:
        parse_region(text)
    plain(caught.value)


@pytest.mark.parametrize(
    "wrong",
    [
        {"methods": ["gradcam"]},
        {"methods": []},
        {"levels": []},
        {"levels": [0, 10]},
        {"margins": []},
        {"margins": [-1]},
        {"joins": ["sum"]},
        {"scores": []},
        {"alignments": ["none"]},
        {"baselines": ["black"]},
        {"size": 0},
        {"stride": 0.5},
    ],
)
def test_bad_options_are_refused(wrong, plain):
    with pytest.raises(MethodError) as caught:
        BenchmarkOptions(**wrong)
    plain(caught.value)
