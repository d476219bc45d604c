"""Tables of two classes that come with scikit-learn, for experiments on real rows.

Features are in standard deviations of all rows of the table (no label is used for that); a feature that
never varies is 0. ``TABLES`` says which rows and classes are meant; where two of several classes are
compared, the others are left out.

Source: scikit-learn's ``load_*``: UCI breast cancer (Wolberg, Street and Mangasarian), digits (Alpaydin and
Kaynak), iris (Fisher) and wine (Forina and others), and diabetes of Efron, Hastie, Johnstone and
Tibshirani (2004), here split at the median of its target.
"""

from __future__ import annotations

import torch

from experiments.truth.law import Labelled

TABLES = {
    "breast cancer": ("breast_cancer", None),
    "diabetes, above median": ("diabetes", None),
    "digits, 2 against 3": ("digits", (2, 3)),
    "digits, 3 against 8": ("digits", (3, 8)),
    "iris, versicolor against virginica": ("iris", (1, 2)),
    "wine, second cultivar against the others": ("wine", ((1,), (0, 2))),
}


def load(name: str) -> Labelled:
    """Load a table: x (rows, features), float64, and y (rows,) in {0, 1}, in scikit-learn's order.

    Raises
    ------
    ValueError
        If there is no table of that name.

    Examples
    --------
    >>> x, y = load("iris, versicolor against virginica")
    >>> x.shape, y.sum().item()
    (torch.Size([100, 4]), 50)
    """
    if name not in TABLES:
        raise ValueError(f"name: expected one of {', '.join(map(repr, TABLES))}, got {name!r}")
    from sklearn import datasets

    loader, classes = TABLES[name]
    found, target = getattr(datasets, f"load_{loader}")(return_X_y=True)
    x, y = torch.as_tensor(found).double(), torch.as_tensor(target).double()
    if loader == "diabetes":
        y = (y > y.quantile(0.5)).double()
    if classes is not None:
        zero, one = (torch.tensor(group).double().reshape(-1) for group in classes)
        kept = torch.isin(y, torch.cat([zero, one]))
        x, y = x[kept], torch.isin(y[kept], one).double()
    x = x - x.mean(0)
    spread = x.std(0)
    return Labelled(torch.where(spread > 0, x / spread, 0.0), y.long())
