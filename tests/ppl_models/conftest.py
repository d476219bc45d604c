"""What several stories' tests need."""

import pytest
import torch
from pyro import poutine

from inference.runtime.isolation import isolated
from inference.story.call import Call


@pytest.fixture
def log_densities():
    """A function: log density of each row of the named sites, at given values of every site, in float64."""

    def run(story, args, values, sites=("x", "y")):
        with isolated(0):
            trace = poutine.trace(poutine.condition(Call.bind(story, args), values)).get_trace()
            trace.compute_log_prob()
        return sum(trace.nodes[name]["log_prob"] for name in sites)

    return run


@pytest.fixture
def log_joint(log_densities):
    """A function: log p(x_i, y_i = c | parameters), in nats, (rows, classes)."""

    def table(story, args, parameters, x, classes):
        x = torch.as_tensor(x)
        columns = [
            log_densities(story, args, {**parameters, "x": x, "y": torch.full((len(x),), c)})
            for c in range(classes)
        ]
        return torch.stack(columns, -1)

    return table
