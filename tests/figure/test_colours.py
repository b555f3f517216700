"""Colours of values."""

import numpy as np
import pytest

from napari_cnnvis.figure.colours import STEPS, colour_table, colours_of


@pytest.mark.parametrize("limits", [(0.0, 2.0), (-2.0, 2.0)])
def test_values_at_the_tables_rows_have_its_colours(limits):
    values = limits[0] + STEPS * (limits[1] - limits[0])
    np.testing.assert_allclose(colours_of(values, limits), colour_table(limits[0] < 0), atol=1e-12)


def test_values_beyond_the_limits_have_the_ends_colours():
    table = colour_table(signed=True)
    np.testing.assert_allclose(colours_of(np.array([-9.0, 9.0]), (-1, 1)), table[[0, -1]])


def test_what_is_below_the_lower_limit_of_a_positive_map_is_transparent():
    assert colours_of(np.array([0.1, -3.0]), (0.5, 1.0))[:, 3].max() == 0


def test_threshold_hides_small_values_of_both_signs():
    alpha = colours_of(np.array([-0.6, -0.4, 0.4, 0.6]), (-1, 1), threshold=0.5)[:, 3]
    np.testing.assert_array_equal(alpha > 0, [True, False, False, True])
