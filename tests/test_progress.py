import pytest

from napari_cnnvis.progress import Progress


def test_the_map_so_far_is_made_once_and_only_when_asked_for():
    made = []
    step = Progress(1, 2, "scoring", lambda: made.append("map") or made[-1])
    assert made == []
    assert step.partial is step.partial == "map"
    assert made == ["map"]


@pytest.mark.parametrize("done", [0, 2])
def test_a_step_without_a_map(done):
    assert Progress(done, 2, "building").partial is None
