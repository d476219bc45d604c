"""Tables of two classes: rows, features and shares as their sources state them."""

import pytest
import torch

from experiments.truth.tables import TABLES, load

# Rows, features and rows of class 1, from the descriptions that come with the tables.
KNOWN = {
    "breast cancer": (569, 30, 357),
    "diabetes, above median": (442, 10, 221),
    "digits, 2 against 3": (360, 64, 183),
    "digits, 3 against 8": (357, 64, 174),
    "iris, versicolor against virginica": (100, 4, 50),
    "wine, second cultivar against the others": (178, 13, 107),
}


@pytest.mark.parametrize("name", TABLES)
def test_rows_features_and_classes(name):
    x, y = load(name)
    rows, features, ones = KNOWN[name]
    assert x.shape == (rows, features) and x.dtype == torch.float64
    assert y.sum().item() == ones and set(y.tolist()) == {0, 1}
    torch.testing.assert_close(x.mean(0), torch.zeros(features).double(), rtol=0, atol=1e-12)
    spread = x.std(0)
    assert ((spread - 1).abs() < 1e-12).logical_or(spread == 0).all()


def test_an_unknown_table_is_named():
    with pytest.raises(ValueError, match="name: expected one of 'breast cancer'"):
        load("titanic")
