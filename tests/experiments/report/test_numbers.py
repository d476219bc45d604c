"""Numbers as people read them."""

import math

import numpy as np
import pytest

from experiments.report.numbers import aligned, readable, with_error


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (208.2, 128.3, "210 ± 130"),
        (208.2, 12.34, "208 ± 12"),
        (0.5, 0.0, "0.5"),
        (0.5, None, "0.5"),
        (-1234.5678, 0.0123, "-1,234.568 ± 0.012"),
        (1.5e-9, 2e-10, "1.5e-09 ± 2e-10"),
        (3e12, 2e10, "3e+12 ± 2e+10"),
        (math.nan, 0.1, "nan"),
        (0.5, math.inf, "0.5"),
    ],
)
def test_a_value_is_cut_where_its_error_has_two_digits(value, error, text):
    assert with_error(value, error) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        (True, "True"),
        (1234567, "1,234,567"),
        (1234.5678, "1,234.6"),
        (123456.78, "123,457"),
        (1e-12, "1e-12"),
        (math.inf, "inf"),
        (np.float32(0.25), "0.25"),
        (np.int64(12), "12"),
        ("0.1", "0.1"),
    ],
)
def test_a_value_in_a_table(value, text):
    assert readable(value) == text


def test_columns_are_as_wide_as_their_longest_cell():
    lines = aligned([("a", "long cell", ""), ("longer", "b", "c")]).splitlines()
    assert lines == ["a       long cell", "longer  b          c"]
