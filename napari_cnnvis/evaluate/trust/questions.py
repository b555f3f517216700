"""What the tests of a trust report ask; declared once, without torch, for all who show them."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["TRUST_TESTS", "TrustTest"]


@dataclass(frozen=True)
class TrustTest:
    """One test of a map.

    Attributes
    ----------
    title : str
        Its name for people.
    question : str
        What it asks, so that yes speaks for the map.
    how : str
        What is done, and what the answer means.
    """

    title: str
    question: str
    how: str


#: in the order in which they run
TRUST_TESTS = {
    "response": TrustTest(
        "Response of the network",
        "Does the network respond to the scan?",
        "The score of the scan beside that of the scan without its detail, and the same for networks "
        "with random weights. A network that does not respond has nothing to explain.",
    ),
    "edges": TrustTest(
        "Edge detector",
        "Is it more than an edge detector?",
        "The map beside the scan's own edges. A map that is like them looks convincing on a brain, "
        "but would look so for any network.",
    ),
    "contrast": TrustTest(
        "Other class",
        "Does it depend on the class?",
        "The map beside those of the other classes. Where all classes have the same map, it does not "
        "say what speaks for one of them.",
    ),
    "randomisation": TrustTest(
        "Random weights",
        "Does it depend on the weights?",
        "The network's layers are made random one after another, from the output on. A map that stays "
        "as it is does not show what the network learned (Adebayo et al. 2018).",
    ),
    "deletion": TrustTest(
        "Deletion and insertion",
        "Does what it marks matter?",
        "The voxels are taken out of the scan, and put back, in the order of the map. The score has to "
        "fall, and rise, sooner than in random orders and in the order of the edges. Takes longest.",
    ),
}
