"""Pictures of a fit."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from experiments.commands.fit_figures import PANELS, posterior_figure, predictive_figure


class Group:
    def __init__(self, **variables):
        self.data_vars = variables


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def visible(figure):
    return [axis for axis in figure.axes if axis.get_visible()]


def test_every_climb_is_a_line_of_its_own_and_every_restart_one_in_each_panel():
    generator = torch.Generator().manual_seed(0)
    draws = {
        "mu": torch.randn(2, 50, generator=generator),
        "theta": torch.randn(2, 50, 3, generator=generator),
    }
    history = [("mean_field", step, -10.0 + step) for _ in range(2) for step in range(5)]
    elbo, *panels = visible(posterior_figure(draws, history))
    assert [line.get_xdata().tolist() for line in elbo.lines] == [[0, 1, 2, 3, 4]] * 2
    assert elbo.get_ylabel() == "ELBO (nats)"
    assert [panel.get_xlabel() for panel in panels] == ["mu", "theta[0]", "theta[1]", "theta[2]"]
    assert [len(panel.patches) for panel in panels] == [2, 2, 2, 2]


def test_many_unknowns_are_cut_and_none_give_no_figure():
    figure = posterior_figure({"theta": torch.zeros(1, 5, 400)}, [])
    assert len(visible(figure)) == PANELS
    assert posterior_figure({}, []) is None


def test_new_data_stand_beside_the_data_missing_ones_left_out():
    generator = np.random.default_rng(0)
    idata = {
        "posterior_predictive": Group(y=generator.normal(size=(2, 10, 30))),
        "observed_data": Group(y=np.where(np.arange(30) < 5, np.nan, 0.5), z=np.zeros(3)),
    }
    figure = predictive_figure(idata)
    (panel,) = visible(figure)
    assert panel.get_xlabel() == "y"
    (marks,) = panel.lines
    assert marks.get_xdata().tolist() == [0.5] * 25
    assert predictive_figure({"posterior": Group()}) is None
