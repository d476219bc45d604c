"""What `ppl check` finds: every defect here is a story, and every story without one passes."""

import pyro
import pyro.distributions as dist
import pytest
import torch

from experiments.commands.check import POINTS, check
from experiments.commands.prior_figure import prior_figure
from experiments.commands.story_file import StoryFile
from experiments.report.errors import InputError


def mixture(n):
    weights = pyro.sample("weights", dist.Dirichlet(torch.ones(3)))
    with pyro.plate("class", 3, dim=-1):
        mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
    with pyro.plate("row", n, dim=-1):
        y = pyro.sample("y", dist.Categorical(weights))
        x = pyro.sample("x", dist.Normal(mu[y], 0.5))
        pyro.deterministic("twice", 2 * x)


def rows(checked):
    return {row["site"]: row for row in checked.sites}


def said(story, *args):
    checked = check(StoryFile(story, story.__name__), args)
    assert checked.well_formed, checked.problems
    return " ".join(checked.warnings)


def problem(story, *args):
    checked = check(StoryFile(story, story.__name__), args)
    assert not checked.well_formed
    return " ".join(checked.problems)


def test_the_sites_of_a_story():
    checked = check(StoryFile(mixture, "mixture"))
    assert checked.well_formed
    assert checked.warnings == []
    assert checked.finite == POINTS
    found = rows(checked)
    assert list(found) == ["weights", "mu", "y", "x", "twice"]
    assert [row["kind"] for row in found.values()] == [
        "latent", "latent", "latent, discrete, local", "data", "deterministic",
    ]  # fmt: skip
    assert found["weights"]["batch | event"] == "| 3"
    assert found["weights"]["support"] == "simplex"
    assert found["mu"]["plates"] == "class"
    assert found["y"]["support"] == "integers 0 to 2"
    assert found["x"]["distribution"] == "Normal"
    assert found["x"]["batch | event"] == "10 |"


def test_the_examples_data_are_data():
    data = {"x": torch.tensor([1.0, 2.0, 5.0]), "y": torch.tensor([0, 1, 2])}
    checked = check(StoryFile(mixture, "mixture", (), data))
    assert checked.given
    assert rows(checked)["y"]["kind"] == "data"
    assert rows(checked)["x"]["batch | event"] == "3 |"


def test_a_module_with_parameters():
    class Net(pyro.nn.PyroModule):
        def __init__(self):
            super().__init__()
            self.layer = pyro.nn.PyroModule[torch.nn.Linear](2, 1)

        def forward(self, n):
            with pyro.plate("row", n, dim=-1):
                z = pyro.sample("z", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
                pyro.sample("x", dist.Normal(self.layer(z)[..., 0], 0.1))

    checked = check(StoryFile(Net(), "net"))
    assert checked.well_formed
    assert rows(checked)["layer.weight"]["kind"] == "param"
    assert rows(checked)["layer.weight"]["batch | event"] == "| 1 2"


def test_a_global_in_the_data_plate():
    def story(n):
        with pyro.plate("row", n, dim=-1):
            mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
            pyro.sample("x", dist.Normal(mu, 1.0))

    text = said(story)
    assert "mu is drawn inside the data plate row: 10 unknowns, one a row, with the same" in text
    assert "draw it before the plate" in text


def test_a_local_with_a_parent_is_a_softer_hint():
    def story(n):
        tau = pyro.sample("tau", dist.Gamma(2.0, 2.0))
        with pyro.plate("row", n, dim=-1):
            theta = pyro.sample("theta", dist.Normal(0.0, tau))
            pyro.sample("x", dist.Normal(theta, 1.0))

    text = said(story)
    assert "theta is drawn inside the data plate" in text
    assert "with the same prior" not in text


def test_an_observation_inside():
    def story(n):
        mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
        with pyro.plate("row", n, dim=-1):
            pyro.sample("x", dist.Normal(mu, 1.0), obs=torch.ones(n))

    assert "x is observed inside the story (obs=)" in said(story)
    checked = check(StoryFile(story, "story"))
    assert rows(checked)["x"]["kind"] == "observed (obs=)"


def test_an_improper_prior():
    def story(n):
        real = dist.constraints.real
        mu = pyro.sample("mu", dist.ImproperUniform(real, torch.Size(), torch.Size()))
        with pyro.plate("row", n, dim=-1):
            pyro.sample("x", dist.Normal(mu, 1.0))

    assert "mu has an improper prior" in said(story)


def test_plates_without_dim_are_named_when_there_are_several():
    def several(n):
        with pyro.plate("group", 2, dim=-1):
            mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
        with pyro.plate("row", n):
            pyro.sample("x", dist.Normal(mu.sum(), 1.0))

    def alone(n):
        mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
        with pyro.plate("row", n):
            pyro.sample("x", dist.Normal(mu, 1.0))

    text = said(several)
    assert "The plate row has no dim=" in text
    assert "The plate group" not in text
    assert said(alone) == ""


def test_a_batch_dimension_in_no_plate():
    def story(n):
        mu = pyro.sample("mu", dist.Normal(torch.zeros(3), 1.0))
        with pyro.plate("row", n, dim=-1):
            pyro.sample("x", dist.Normal(mu.sum(), 1.0))

    assert "mu has the batch shape [3], and its dimension -1 lies in no plate" in said(story)


def test_a_site_without_children():
    def story(n):
        mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
        pyro.sample("tau", dist.Gamma(2.0, 2.0))
        with pyro.plate("row", n, dim=-1):
            pyro.sample("x", dist.Normal(mu, 1.0))

    assert said(story) == "Nothing depends on tau: data can teach nothing about it."


def test_a_plate_that_is_a_loop():
    def story(n):
        mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
        for i in pyro.plate("row", n):
            pyro.sample(f"x{i}", dist.Normal(mu, 1.0))

    assert "The plate row is a loop in Python" in said(story, 3)


@pytest.mark.parametrize("name", ["chain", "a/b"])
def test_names_that_arviz_cannot_take(name):
    def story(n):
        mu = pyro.sample(name, dist.Normal(0.0, 1.0))
        with pyro.plate("row", n, dim=-1):
            pyro.sample("x", dist.Normal(mu, 1.0))

    assert f"{name} " in said(story)


def test_a_latent_that_cannot_be_summed_out():
    def story(n):
        count = pyro.sample("count", dist.Poisson(3.0))
        with pyro.plate("row", n, dim=-1):
            pyro.sample("x", dist.Normal(count, 1.0))

    assert "It cannot be fitted as it stands" in said(story)


def test_a_story_that_cannot_be_enumerated():
    def story():
        mu = pyro.sample("mu", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
        with pyro.plate("row", 40, dim=-1):
            y = pyro.sample("y", dist.Bernoulli(0.5))
            pyro.sample("x", dist.Normal(mu[y.long()].reshape(40), 1.0))

    text = said(story)
    assert (
        "It cannot be fitted as it stands: site 'y': the story cannot be run with all its values at" in text
    )


def test_names_that_collide():
    def sites(n):
        pyro.sample("x", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(0.0, 1.0))

    def plate(n):
        with pyro.plate("x", n, dim=-1):
            pyro.sample("x", dist.Normal(0.0, 1.0))

    for story in (sites, plate):
        text = problem(story)
        assert "Multiple sample sites named 'x'" in text
        assert "(test_check.py, line " in text


def test_shapes_that_do_not_fit_their_plate():
    def story(n):
        with pyro.plate("row", n, dim=-1):
            pyro.sample("x", dist.Normal(torch.zeros(3), 1.0))

    assert "Shape mismatch inside plate('row') at site x" in problem(story)


def test_parameters_outside_their_range():
    def story(n):
        mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(0.0, -mu.abs()))

    assert "scale" in problem(story)


def test_a_density_that_is_never_finite():
    def story(n):
        mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
        pyro.factor("penalty", mu * torch.inf)

    assert "At every draw of the prior the log density of penalty is" in problem(story)


def test_a_gradient_that_is_never_finite():
    def story(n):
        mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
        with pyro.plate("row", n, dim=-1):
            pyro.sample("x", dist.Normal((0 * mu).sqrt(), 1.0))

    assert "the gradient of the log density by mu is not finite" in problem(story)


def test_a_density_that_is_sometimes_not_finite_is_a_warning():
    def story(n):
        width = pyro.sample("width", dist.Uniform(0.0, 2.0))
        with pyro.plate("row", n, dim=-1):
            pyro.sample("x", dist.Uniform(0.0, width))

    data = {"x": torch.full((5,), 0.9)}
    checked = check(StoryFile(story, "story", (), data), seed=0)
    assert checked.well_formed
    assert 0 < checked.finite < POINTS
    assert f"of {POINTS} draws of the prior the log density of x is" in checked.warnings[-1]


def test_an_example_that_does_not_fit_its_story():
    wrong = {"x": torch.ones(3), "z": torch.ones(3)}
    checked = check(StoryFile(mixture, "mixture", (3,), wrong))
    assert "'z' is not a sample site" in checked.problems[0]
    outside = {"x": torch.ones(3), "y": torch.tensor([0, 1, 7])}
    checked = check(StoryFile(mixture, "mixture", (3,), outside))
    assert "EXAMPLE['y']: expected values in the support" in checked.problems[0]


def test_what_samples_nothing_or_lacks_arguments_is_bad_input():
    def nothing(n):
        return n

    def regression(covariates):
        pyro.sample("x", dist.Normal(covariates, 1.0).to_event(1))

    with pytest.raises(InputError, match=r"nothing is not a story: it ran without any pyro\.sample"):
        check(StoryFile(nothing, "nothing"))
    with pytest.raises(InputError, match="cannot be called"):
        check(StoryFile(regression, "regression"))
    assert check(StoryFile(regression, "regression"), (torch.zeros(3),)).well_formed


def test_a_check_leaves_no_trace():
    before = torch.random.get_rng_state()

    def story(n):
        loc = pyro.param("loc", torch.zeros(()))
        pyro.sample("x", dist.Normal(loc, 1.0).expand([n]).to_event(1))

    assert check(StoryFile(story, "story")).well_formed
    assert torch.equal(torch.random.get_rng_state(), before)
    assert not list(pyro.get_param_store().keys())


def test_the_figure_has_a_panel_for_each_site_and_shows_the_data():
    import matplotlib.pyplot as plt

    data = {"x": torch.linspace(-3, 3, 100), "y": torch.arange(100) % 3}
    figure = prior_figure(check(StoryFile(mixture, "mixture", (), data)))
    shown = [axis.get_xlabel() for axis in figure.axes if axis.get_visible()]
    assert shown == ["y", "x", "weights", "mu"]
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["drawn from the prior", "the data"]
    # The histogram of the data has area one.
    outline = figure.axes[1].patches[-1].get_path()
    assert outline.vertices[:, 1].max() > 0
    plt.close(figure)
