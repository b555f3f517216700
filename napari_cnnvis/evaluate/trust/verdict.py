"""From tests to findings, and from these to one line in plain words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from napari_cnnvis.evaluate.trust.class_contrast import ClassContrast
from napari_cnnvis.evaluate.trust.deletion import Removal
from napari_cnnvis.evaluate.trust.edges import EdgeControl
from napari_cnnvis.evaluate.trust.network_response import NetworkResponse
from napari_cnnvis.evaluate.trust.questions import TRUST_TESTS
from napari_cnnvis.evaluate.trust.randomisation import Randomisation

__all__ = ["Finding", "findings_of", "verdict_of"]

#: a network has to respond this many times as much as the strongest of its random copies;
#: those of one initialisation differ by about this factor among themselves
RESPONSE = 2.0
#: log-odds below which a network as good as ignores the scan: 0.05 moves 50% to 51%
SMALLEST_RESPONSE = 0.05
#: rank correlation with the scan's edges from which on a map is called an edge detector; maps
#: of trained networks reach 0.3, an edge map that was blurred or cut off stays above 0.8
EDGES = 0.7
#: rank correlation left with random weights from which on a map is said to ignore them. Maps of
#: two random networks correlate up to 0.5 by chance, as both are smooth and fill the same head
RANDOMISED = 0.7
#: chance that a random order does as well below which a map beats the random orders
CHANCE = 0.05
#: deviations below the random orders from which on a map is suspected to be upside down
UPSIDE_DOWN = -2.0
#: rank correlation with another class's map from which on both are said to be the same
SAME_CLASS = 0.9

_BLURRY = "Removal favours blurry maps."
_GRAIN = "The random orders have the map's own grain to make up for that."
_FAILED = {
    "response": "The network responds to this scan no more than networks with random weights do: no "
    "map of it means anything.",
    "edges": "This map can't be told from an edge detector.",
    "randomisation": "This map hardly changes when the network's weights are random: it shows the "
    "scan, not what the network learned.",
    "deletion": "Taking out what this map marks changes the score no more than taking out random "
    "parts of the brain.",
    "contrast": "This map is the same for the other class.",
}
#: without these two nothing good can be said of a map
_NEEDED = ("randomisation", "deletion")


@dataclass(frozen=True)
class Finding:
    """What one test says of a map.

    Attributes
    ----------
    name : {"response", "edges", "randomisation", "deletion", "contrast"}
    passed : bool or None
        None if it could not be decided, or is no evidence.
    sentence : str
        What was found, in plain words, with the number.
    how : str
        How it was decided.
    numbers : dict
        Plain values.
    """

    name: str
    passed: bool | None
    sentence: str
    how: str
    numbers: dict[str, Any]

    @property
    def title(self) -> str:
        """The test's name for people: "Other class"."""
        return TRUST_TESTS[self.name].title

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "name": self.name,
            "title": self.title,
            "passed": self.passed,
            "sentence": self.sentence,
            "how": self.how,
            "numbers": self.numbers,
        }


def findings_of(
    *,
    response: NetworkResponse | None,
    edges: EdgeControl | None,
    contrast: ClassContrast | None,
    randomisation: Randomisation | None,
    deletion: Removal | None,
    signed: bool,
) -> tuple[Finding, ...]:
    """What the tests that were run say, in the order of how much they say.

    `signed` says whether the map has negative values.
    """
    found = []
    if response is not None:
        found.append(_response(response))
    if edges is not None:
        found.append(_edges(edges))
    if randomisation is not None:
        found.append(_randomisation(randomisation))
    if deletion is not None:
        found.append(_removal(deletion))
    if contrast is not None:
        found.append(_contrast(contrast, signed))
    return tuple(found)


def verdict_of(findings: tuple[Finding, ...], complete: bool = True) -> tuple[bool | None, str]:
    """Whether a map passed, and one line that says why.

    The most damning finding speaks.

    Parameters
    ----------
    findings : tuple of Finding
    complete : bool
        False if tests are missing because the run was cancelled.
    """
    by_name = {finding.name: finding for finding in findings}
    passed = {name: finding.passed for name, finding in by_name.items()}
    for name, sentence in _FAILED.items():
        if passed.get(name) is False:
            return False, sentence
    missing = [name for name in _NEEDED if passed.get(name) is None]
    if missing or not complete:
        said = {
            "randomisation": "the network's weights were not made random",
            "deletion": "nothing was taken out",
        }
        why = " and ".join(said[name] for name in missing) or "the run was stopped"
        return None, f"No test calls this map out, but too little is known of it: {why}."
    return True, (
        "This map depends on what the network learned, and what it marks matters more than random "
        f"parts of the brain ({_by_how_much(by_name['deletion'])}). {_BLURRY}"
    )


def _by_how_much(finding: Finding) -> str:
    """How many times as much as random parts: "deletion 1.9 times, insertion 1.4 times"."""
    times = {name: finding.numbers[name]["times_random"] for name in ("deletion", "insertion")}
    known = [f"{name} {value:.1f} times" for name, value in times.items() if value is not None]
    return ", ".join(known) or f"z = {finding.numbers['z']:.1f}"


def _response(found: NetworkResponse) -> Finding:
    strongest = max(found.random, default=0.0)
    floor = SMALLEST_RESPONSE if found.score == "log_odds" else 0.0
    passed = found.response > max(RESPONSE * strongest, floor)
    unit = "log-odds" if found.score == "log_odds" else "its value"
    return Finding(
        "response",
        passed,
        f"Without the scan's detail the score moves by {found.response:.3g} ({unit}); that of "
        f"{len(found.random)} copies with random weights moves by {strongest:.3g} at most.",
        f"Passes if the score moves more than {RESPONSE:g} times as much as any random copy's"
        + (f", and by more than {floor:g}." if floor else "."),
        {"response": found.response, "random_largest": strongest},
    )


def _edges(found: EdgeControl) -> Finding:
    alike = found.similarity.spearman
    how = f"Called out from a rank correlation of {EDGES:g} on."
    if alike is None:
        return Finding("edges", None, "The map has one value in the whole brain.", how, {})
    blur = f" blurred by {found.blur_mm:g} mm" if found.blur_mm else ""
    return Finding(
        "edges",
        alike < EDGES,
        f"The map's strength and the scan's edges{blur} have a rank correlation of {alike:.2f}.",
        how,
        {"spearman": alike, "ssim": found.similarity.ssim, "blur_mm": found.blur_mm},
    )


def _randomisation(found: Randomisation) -> Finding:
    count = 1 + len(found.repeats)
    networks = "a network" if count == 1 else f"{count} networks (mean)"
    return Finding(
        "randomisation",
        found.remaining < RANDOMISED,
        f"With all {found.n_layers} layers random the map keeps a rank correlation of "
        f"{found.remaining:.2f} with itself, over {networks}.",
        f"Called out from {RANDOMISED:g} on, of values or of absolute values.",
        {"remaining": found.remaining, "networks": count},
    )


def _removal(found: Removal) -> Finding:
    own = {c.kind: float(c.change(c.map)) for c in (found.deletion, found.insertion)}
    random = {c.kind: float(c.change(c.random).mean()) for c in (found.deletion, found.insertion)}
    orders = len(found.deletion.random)
    sentence = (
        f"Taking out what the map marks, the score falls by {own['deletion']:.3g} on average, in "
        f"{orders} random orders of the same grain by {random['deletion']:.3g}; putting it back, it "
        f"rises by {own['insertion']:.3g}, in random orders by {random['insertion']:.3g} "
        f"(z = {found.z:.1f}, p = {found.p:.2g})."
    )
    edges = found.gain_of(found.deletion.edges, found.insertion.edges)
    if found.z < UPSIDE_DOWN:
        sentence += " Random parts matter more: the map may be upside down."
    elif edges >= found.gain[0]:
        sentence += " The order of the scan's edges does at least as well."
    return Finding(
        "deletion",
        found.p < CHANCE,
        sentence,
        f"Passes if a random order would do as well with a chance below {CHANCE:.0%}, both curves "
        f"taken together. {_BLURRY} {_GRAIN}",
        {
            "z": found.z,
            "p": found.p,
            "random_orders_as_good": found.as_good,
            **{
                c.kind: {
                    "change": own[c.kind],
                    "random_mean": random[c.kind],
                    "times_random": c.times,
                    "z": c.z,
                    "edges": float(c.change(c.edges)),
                    "brain": float(c.change(c.brain)),
                    "area_normalised": c.normalised,
                }
                for c in (found.deletion, found.insertion)
            },
        },
    )


def _contrast(found: ClassContrast, signed: bool) -> Finding:
    how = f"Called out from a rank correlation of {SAME_CLASS:g} on."
    if found.by_construction:
        why = "are each other's negatives" if signed else "have nothing in common"
        return Finding(
            "contrast",
            None,
            f"The maps of the two classes {why} by construction, which is no evidence.",
            how,
            {},
        )
    row = found.closest
    if row is None:
        return Finding(
            "contrast",
            None,
            "The map of this or of the other class has one value in the whole brain.",
            how,
            {},
        )
    shared = "" if row.overlap is None else f" and share {row.overlap:.0%} of what they mark"
    return Finding(
        "contrast",
        row.similarity.spearman < SAME_CLASS,
        f"The map and that of '{row.class_name}' have a rank correlation of "
        f"{row.similarity.spearman:.2f}{shared}.",
        how,
        {"class": row.class_name, "spearman": row.similarity.spearman, "overlap": row.overlap},
    )
