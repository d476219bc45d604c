"""Questions to a fit of which discrete sites were summed out jointly, against sums over all assignments."""

import itertools
import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

from inference import SVI, fit, load, prior
from inference.many import fit_many

X = torch.tensor([0.0, 1.0, 2.0, 1.5]).double()
GRID = (torch.arange(400).double() + 0.5) / 400  # of a
ROWS = torch.tensor(list(itertools.product((0.0, 1.0), repeat=4))).double()  # (16, 4)


def centred(n):
    a = pyro.sample("a", dist.Beta(2.0, 2.0))
    with pyro.plate("row", n):
        b = pyro.sample("b", dist.Bernoulli(a))
        pyro.sample("x", dist.Normal(b - b.mean(), 0.5))
    pyro.deterministic("share", b.mean())


def log_joint(x, rows=None):
    """log p(a, b, x) of the story above on the grid and at all assignments: (400, assignments)."""
    rows = ROWS if rows is None else rows
    like = dist.Normal(rows - rows.mean(-1, keepdim=True), 0.5).log_prob(x).sum(-1)
    coins = dist.Bernoulli(GRID[:, None, None]).log_prob(rows).sum(-1)
    return dist.Beta(2.0, 2.0).log_prob(GRID).double()[:, None] + coins + like


@pytest.fixture(scope="module")
def posterior():
    return fit(centred, {"x": X}, seed=1)


def test_the_posterior_is_that_of_the_whole(posterior):
    p = log_joint(X)
    log_evidence = p.flatten().logsumexp(0) - math.log(len(GRID))
    of_a = p.flatten().softmax(0).reshape(p.shape).sum(1)
    mean = of_a @ GRID
    sd = (of_a @ (GRID - mean) ** 2).sqrt()
    certificate = posterior.certificate
    assert certificate.trusted
    assert abs(certificate.log_evidence - log_evidence) < 4 * certificate.log_evidence_stderr + 1e-3
    assert abs(posterior.draws["a"].mean() - mean) < 4 * sd / math.sqrt(4000)
    assert mean == pytest.approx(0.529, abs=1e-3) and log_evidence == pytest.approx(-14.33, abs=1e-2)


def test_rows_have_probabilities_and_draws_of_the_joint_conditional(posterior):
    """A deterministic site that hangs on the rows is computed from draws of all of them together."""
    of_rows = log_joint(X).flatten().softmax(0).reshape(len(GRID), -1).sum(0)
    table = posterior.probabilities("b")
    torch.testing.assert_close(table[:, 1], of_rows @ ROWS, atol=0.02, rtol=0)
    share, exact = posterior.draws["share"], ROWS.mean(-1)
    assert share.shape == (4, 1000)
    for value in exact.unique():
        p = of_rows[exact == value].sum()
        assert abs((share == value).double().mean() - p) < 4 * (p * (1 - p) / 4000).sqrt() + 1e-3
    drawn = posterior.sample(["b", "x"], num_samples=500)
    both = (drawn["b"][:, None] == ROWS).all(-1).double().mean(0)
    assert ((both - of_rows).abs() < 4.5 * (of_rows * (1 - of_rows) / 500).sqrt() + 2e-3).all()


def test_new_rows_are_one_question(posterior):
    """p(new | data) = sum_a p(new | a) p(a | data); the rows of a data set hang together."""
    new = torch.tensor([0.6, -0.5, 0.4]).double()
    rows = torch.tensor(list(itertools.product((0.0, 1.0), repeat=3))).double()
    of_a = log_joint(X).logsumexp(1).softmax(0)
    given_a = log_joint(new, rows) - dist.Beta(2.0, 2.0).log_prob(GRID).double()[:, None]
    joint = of_a.log()[:, None] + given_a
    found, error = posterior.log_prob({"x": new}, args=(3,), stderr=True)
    assert found.shape == ()
    assert abs(found - joint.flatten().logsumexp(0)) < 4 * error + 1e-6
    table = posterior.probabilities("b", given={"x": new}, args=(3,))
    of_rows = joint.flatten().softmax(0).reshape(joint.shape).sum(0)
    torch.testing.assert_close(table[:, 1], of_rows @ rows, atol=0.02, rtol=0)
    drawn = posterior.sample("b", given={"x": new}, args=(3,), num_samples=600)
    both = (drawn[:, None] == rows).all(-1).double().mean(0)
    assert ((both - of_rows).abs() < 4.5 * (of_rows * (1 - of_rows) / 600).sqrt() + 2e-3).all()


def test_the_pointwise_likelihood_has_no_rows_to_leave_out(posterior):
    groups = posterior.to_arviz(predictive=20)
    a = torch.as_tensor(groups["posterior"]["a"].values)
    rows = dist.Bernoulli(a[..., None, None]).log_prob(ROWS).sum(-1)
    like = dist.Normal(ROWS - ROWS.mean(-1, keepdim=True), 0.5).log_prob(X).sum(-1)
    found = torch.as_tensor(groups["log_likelihood"]["joint"].values)
    torch.testing.assert_close(found, (rows + like).logsumexp(-1), rtol=1e-6, atol=1e-6)
    sites = torch.as_tensor(
        posterior.to_arviz(log_likelihood="sites", predictive=0)["log_likelihood"]["x"].values
    )
    torch.testing.assert_close(sites, found)


def test_a_saved_fit_answers_as_before(posterior, tmp_path):
    posterior.save(tmp_path / "fit")
    again = load(tmp_path / "fit", centred)
    torch.testing.assert_close(again.probabilities("b"), posterior.probabilities("b"))


def test_only_what_is_missing_is_gone_through():
    """Sixty rows, of which three were not seen: eight assignments."""
    truth = (torch.arange(60) % 3 == 0).double()
    x = truth - truth.mean() + 0.3 * torch.sin(torch.arange(60.0)).double()
    missing = np.zeros(60, bool)
    missing[[0, 7, 30]] = True
    found = fit(centred, {"x": x, "b": np.ma.masked_array(truth.numpy(), missing)}, restarts=2, draws=500)
    rows = truth.repeat(8, 1)
    rows[:, missing] = torch.tensor(list(itertools.product((0.0, 1.0), repeat=3))).double()
    p = log_joint(x, rows)
    exact = p.flatten().logsumexp(0) - math.log(len(GRID))
    assert found.certificate.log_evidence == pytest.approx(float(exact), abs=0.02)
    table = found.probabilities("b")[missing, 1]
    of_rows = p.flatten().softmax(0).reshape(p.shape).sum(0)
    torch.testing.assert_close(table, of_rows @ rows[:, missing], atol=0.03, rtol=0)
    shares = rows.mean(-1)
    mean = of_rows @ shares
    sd = (of_rows @ (shares - mean) ** 2).sqrt()
    assert abs(found.draws["share"].mean() - mean) < 4 * sd / math.sqrt(1000)


def test_many_data_sets_share_a_sum():
    sets = [{"x": X}, {"x": X - 1.0}, {"x": torch.tensor([0.5, -0.5, 0.4, -0.6]).double()}]
    for one, data in zip(fit_many(centred, sets, draws=200), sets, strict=True):
        exact = log_joint(data["x"]).flatten().logsumexp(0) - math.log(len(GRID))
        assert one.certificate.log_evidence == pytest.approx(float(exact), abs=0.05)


def test_svi_refuses_what_hangs_together():
    with pytest.raises(ValueError, match="site 'b': the story mixes its values over the plate 'row'.*SVI"):
        fit(centred, {"x": X}, guide=pyro.infer.autoguide.AutoNormal, steps=10)
    with pytest.raises(ValueError, match="the rows cannot be told apart.*a row may not depend on other rows"):
        fit(centred, {"x": X}, svi=SVI(batch_size=2), steps=10)


def test_too_many_new_rows_are_drawn_from_their_prior():
    """Thirty rows with 2^30 assignments: an estimate with its error, and still one question."""
    found, error = prior(centred, seed=0, draws=1000).log_prob(
        {"x": torch.zeros(30).double()}, args=(30,), stderr=True
    )
    ones = torch.arange(31.0).double()
    like = ones * dist.Normal(1 - ones / 30, 0.5).log_prob(torch.zeros(())) + (30 - ones) * dist.Normal(
        -ones / 30, 0.5
    ).log_prob(torch.zeros(()))
    counts = dist.BetaBinomial(2.0, 2.0, 30).log_prob(ones)
    assert found.shape == () and abs(found - (counts + like).logsumexp(0)) < 4 * error


def test_two_sites_of_which_one_is_mixed():
    """Groups z are told apart, b is not: 2^4 assignments, and z summed out row by row in each."""

    def story():
        a = pyro.sample("a", dist.Beta(2.0, 2.0))
        with pyro.plate("row", 4):
            z = pyro.sample("z", dist.Categorical(torch.tensor([0.2, 0.5, 0.3])))
            b = pyro.sample("b", dist.Bernoulli(a))
            pyro.sample("x", dist.Normal(torch.tensor([-1.0, 0.0, 2.0])[z] + b - b.mean(), 0.5))

    found = fit(story, {"x": X}, restarts=2, draws=500)
    kinds, w = torch.tensor([-1.0, 0.0, 2.0]).double(), torch.tensor([0.2, 0.5, 0.3]).double()
    loc = (ROWS - ROWS.mean(-1, keepdim=True))[..., None] + kinds
    each = dist.Normal(loc, 0.5).log_prob(X[:, None]) + w.log()  # (16, 4, 3)
    coins = dist.Bernoulli(GRID[:, None, None]).log_prob(ROWS).sum(-1)
    p = dist.Beta(2.0, 2.0).log_prob(GRID)[:, None] + coins + each.logsumexp(-1).sum(-1)
    exact = p.flatten().logsumexp(0) - math.log(len(GRID))
    assert found.certificate.log_evidence == pytest.approx(float(exact), abs=0.02)
    weights = p.flatten().softmax(0).reshape(p.shape).sum(0)
    of_z = torch.einsum("r,rnk->nk", weights, each.softmax(-1))
    torch.testing.assert_close(found.probabilities("z"), of_z, atol=0.02, rtol=0)
    torch.testing.assert_close(found.probabilities("b")[:, 1], weights @ ROWS, atol=0.03, rtol=0)
