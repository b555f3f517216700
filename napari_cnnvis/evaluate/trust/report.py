"""Is this map true? All tests of one map, and the verdict."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection
from typing import Any

from napari_cnnvis.errors import CnnVisError, MethodError
from napari_cnnvis.evaluate.trust.deletion import SCORES, affordable
from napari_cnnvis.evaluate.trust.questions import TRUST_TESTS
from napari_cnnvis.evaluate.trust.result import TrustReport
from napari_cnnvis.evaluate.trust.shared import TrustRun
from napari_cnnvis.evaluate.trust.verdict import findings_of, verdict_of
from napari_cnnvis.explain.attribution import Attribution
from napari_cnnvis.explain.parameter import Baseline, check_choice
from napari_cnnvis.explain.request import ExplainRequest
from napari_cnnvis.models.model import Model
from napari_cnnvis.progress import Progress
from napari_cnnvis.scan.volume import Scan
from napari_cnnvis.ucm.hierarchy import Hierarchy

__all__ = ["trust_report"]

#: stages of the cascade and further random networks, for quick maps and for those of many passes
_QUICK, _SLOW = (8, 2), (4, 0)


def trust_report(
    model: Model,
    volume: Scan,
    what: ExplainRequest | Attribution,
    *,
    hierarchy: Hierarchy | None = None,
    tests: Collection[str] = tuple(TRUST_TESTS),
    steps: int | None = None,
    random_orders: int | None = None,
    stages: int | None = None,
    random_networks: int = 6,
    baseline: Baseline | None = None,
    score: str = "log_odds",
    seed: int = 0,
    progress: Callable[[Progress], None] | None = None,
    cancel: threading.Event | None = None,
) -> TrustReport:
    """Test whether a map shows what the network uses.

    Parameters
    ----------
    model : Model
        Left as it is: weights are randomised in a copy.
    volume : Volume, or a sequence with one for each input channel
        The scan.
    what : ExplainRequest or Attribution
        What to compute and test, or a map of this scan. Of a map whose record names no
        method of this package, only the tests that need no other map are run.
    hierarchy : Hierarchy, optional
        For sensitivity; that of the map, or built once, by default.
    tests : collection of str
        Some of `TRUST_TESTS`.
    steps, random_orders : int, optional
        Points of the deletion curves, and random orders beside the map's; 24 and 20 by
        default, fewer for heavy networks.
    stages : int, optional
        How many groups of layers are made random one after the other; by default 8, or 4
        for sensitivity and boxes.
    random_networks : int
        Copies with random weights whose response is compared.
    baseline : float, "blur", "border", "noise" or Volume, optional
        What deleted voxels become; by default what the map's own method replaces voxels
        by if it has one such baseline, else "blur".
    score : {"log_odds", "probability", "logit", "log_prob"}
        What the deletion curves show. A probability near 0 or 1 hardly moves, log-odds do.
    seed : int
    progress, cancel
        As in `sensitivity`; a cancelled report keeps the tests it has, marked partial.

    Returns
    -------
    TrustReport

    Raises
    ------
    MethodError
        If there is no such test or option, or the map is not of this scan.
    CnnVisError
        If the map cannot be computed; see `explain`.

    Examples
    --------
    >>> import napari_cnnvis as cv
    >>> from napari_cnnvis.sample_data import small_example
    >>> model, volume = small_example()
    >>> what = cv.ExplainRequest("cam", "lesion")
    >>> report = cv.trust_report(model, volume, what, tests=["response", "edges"])
    >>> [finding.name for finding in report.findings]
    ['response', 'edges']
    """
    check_choice(score, SCORES, "a score")
    for name in tests:
        check_choice(name, TRUST_TESTS, "a test")
    counts = ((steps, "steps", 1), (random_orders, "random orders", 2), (stages, "stages", 1))
    for value, name, least in counts:
        if value is not None and value < least:
            raise MethodError(f"{value} {name} are too few; give {least} or more.")
    start = time.monotonic()
    run = TrustRun(model, volume, what, hierarchy, baseline, seed, progress, cancel)
    chosen = [name for name in TRUST_TESTS if name in tests]
    settings = {"seed": seed, "random_networks": random_networks, "score": score}
    results: dict[str, Any] = {}
    if "deletion" in chosen:
        affords = affordable(model, run.scan.conformed.data.shape)
        steps, random_orders = steps or affords[0], random_orders or affords[1]
        settings |= {"steps": steps, "random_orders": random_orders, "baseline": run.scan.names[0]}
    usual = _SLOW if run.request is not None and run.request.how.occludes else _QUICK
    how: dict[str, Callable[[], Any]] = {
        "response": lambda: run.response(random_networks),
        "edges": run.edges,
        "contrast": run.contrast,
        "randomisation": lambda: run.randomisation(stages or usual[0], usual[1]),
        "deletion": lambda: run.removal(steps, random_orders, score),
    }
    notes = list(run.notes)
    partial = run.attribution.partial
    for number, name in enumerate(chosen):
        if run.cancelled:
            partial = True
            break
        run.doing = f"test {number + 1} of {len(chosen)}"
        try:
            results[name] = how[name]()
        except CnnVisError as exc:
            notes.append(f"The test '{TRUST_TESTS[name].question}' was left out. {exc}")
            results[name] = None
            continue
        partial |= results[name] is None
    measured = {name: results.get(name) for name in TRUST_TESTS}
    findings = findings_of(**measured, signed=run.signed)
    passed, verdict = verdict_of(findings, complete=not partial)
    return TrustReport(
        verdict,
        passed,
        findings,
        run.attribution,
        measured["response"],
        measured["edges"],
        measured["contrast"],
        measured["randomisation"],
        measured["deletion"],
        tuple(notes),
        {"map": run.attribution.provenance, "tests": {"run": chosen, **settings}},
        partial,
        time.monotonic() - start,
    )
