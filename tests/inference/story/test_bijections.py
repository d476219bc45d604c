"""Every bijection's Jacobian is its own, and one that is not is found."""

import pytest
import torch
from pyro.distributions import constraints as c

from experiments.never_silently_wrong.faults import missing_jacobian
from inference.story.bijections import wrong_jacobian

SUPPORTS = {
    "real": (c.real, (3,)),
    "positive": (c.positive, (2, 3)),
    "greater": (c.greater_than(2.0), ()),
    "less": (c.less_than(-1.0), (2,)),
    "interval": (c.interval(-1.0, 3.0), (4,)),
    "simplex": (c.simplex, (5,)),
    "simplexes": (c.independent(c.simplex, 1), (3, 4)),
    "ordered": (c.ordered_vector, (4,)),
    "correlation": (c.corr_cholesky, (4, 4)),
    "triangle": (c.lower_cholesky, (3, 3)),
    "definite": (c.positive_definite, (3, 3)),
    "vector": (c.real_vector, (3,)),
    "many": (c.independent(c.positive, 2), (2, 3)),
}


@pytest.mark.parametrize("name", SUPPORTS)
def test_a_map_reports_its_own_jacobian_and_a_forgotten_one_is_found(name):
    support, shape = SUPPORTS[name]
    sites = [("theta", support, torch.Size(shape))]
    assert wrong_jacobian(sites) == ""
    with missing_jacobian():
        said = wrong_jacobian(sites)
    assert ("'theta'" in said and "log Jacobian" in said) == (name not in {"real", "vector"})
