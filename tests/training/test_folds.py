import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_cnnvis.errors import MethodError
from napari_cnnvis.training.batches import BalancedSampler
from napari_cnnvis.training.folds import make_folds


@settings(max_examples=25, deadline=None)
@given(
    per_class=st.integers(8, 15),
    visits=st.integers(1, 3),
    folds=st.integers(2, 4),
    validation=st.sampled_from([0.0, 0.2, 0.34]),
    seed=st.integers(0, 99),
)
def test_no_subject_straddles_and_all_are_tested_once(per_class, visits, folds, validation, seed):
    subjects = np.repeat([f"s{n}" for n in range(2 * per_class)], visits)
    labels = np.repeat(np.arange(2 * per_class) % 2, visits)
    for fold_set in (make_folds(labels, subjects, folds, 2, seed, validation),):
        for repeat in (1, 2):
            parts = [fold for fold in fold_set if fold.repeat == repeat]
            tested = np.concatenate([fold.test for fold in parts])
            assert sorted(tested) == list(range(len(labels)))
        for fold in fold_set:
            sides = [set(subjects[part]) for part in (fold.train, fold.validation, fold.test)]
            assert not (sides[0] & sides[1] or sides[0] & sides[2] or sides[1] & sides[2])
            assert len(fold.train) + len(fold.validation) + len(fold.test) == len(labels)
            assert (len(fold.validation) > 0) == (validation > 0)
            assert abs(labels[fold.test].mean() - 0.5) < 0.26
            assert set(labels[fold.train]) == {0, 1}


def test_folds_follow_from_the_seed():
    labels, subjects = [0, 1] * 10, [str(n) for n in range(20)]
    tests = [
        [f.test.tolist() for f in make_folds(labels, subjects, 5, 2, seed)] for seed in (0, 0, 1)
    ]
    assert tests[0] == tests[1] != tests[2]
    assert tests[0][:5] != tests[0][5:]


@pytest.mark.parametrize(("folds", "repeats"), [(1, 1), (5, 0), (5, 1)])
def test_too_few_subjects_or_folds(folds, repeats):
    with pytest.raises(MethodError, match="folds"):
        make_folds([0, 1] * 3, list("abcdef"), folds, repeats)


def test_epochs_are_balanced_and_draw_anew():
    labels = [0] * 10 + [1] * 4
    for alternate in (False, True):
        sampler = BalancedSampler(labels, seed=1, alternate=alternate)
        seen, orders = set(), []
        for epoch in range(8):
            sampler.set_epoch(epoch)
            order = list(sampler)
            orders.append(order)
            assert len(order) == len(sampler) == 8
            assert len(set(order)) == 8
            assert sum(labels[i] for i in order) == 4
            if alternate:
                assert all(
                    labels[a] != labels[b] for a, b in zip(order[::2], order[1::2], strict=True)
                )
            seen.update(order)
        assert seen == set(range(14))  # all of the larger class take part in time
        sampler.set_epoch(3)
        assert list(sampler) == orders[3]
        assert orders[0] != orders[1]
