import pytest

from napari_cnnvis.evaluate.trust.verdict import Finding, verdict_of

NUMBERS = {"deletion": {"times_random": 1.94}, "insertion": {"times_random": None}, "z": 3.0}
NAMES = ("response", "edges", "randomisation", "deletion", "contrast")


def findings(**passed):
    given = dict.fromkeys(NAMES, True) | passed
    return tuple(Finding(n, p, "", "", NUMBERS) for n, p in given.items() if p != "left out")


def test_all_passed():
    passed, text = verdict_of(findings())
    assert passed is True
    assert "(deletion 1.9 times)" in text


def test_the_most_damning_finding_speaks():
    texts = []
    for number in range(len(NAMES)):
        passed, text = verdict_of(findings(**dict.fromkeys(NAMES[number:], False)))
        assert passed is False
        texts.append(text)
    assert len(set(texts)) == len(NAMES)
    assert texts[0].startswith("The network responds to this scan no more")
    assert texts[1] == "This map can't be told from an edge detector."


def test_no_evidence_from_the_other_class_does_not_matter():
    assert verdict_of(findings(contrast=None))[0] is True
    assert verdict_of(findings(contrast="left out"))[0] is True


@pytest.mark.parametrize("name", ["randomisation", "deletion"])
def test_without_the_main_tests_nothing_good_is_said(name):
    for missing in (None, "left out"):
        passed, text = verdict_of(findings(**{name: missing}))
        assert passed is None
        assert "too little" in text
    assert verdict_of(findings(**{name: None, "edges": False}))[0] is False


def test_a_stopped_run_gives_no_pass():
    passed, text = verdict_of(findings(), complete=False)
    assert passed is None
    assert "stopped" in text
