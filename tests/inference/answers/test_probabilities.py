"""Bayes inversion p(y | x, data) = E[p(x, y | theta)] / E[p(x | theta)] against the same sum by hand."""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

from inference import fit, prior
from ppl_models.binomial_pixels import EXAMPLE, binomial_pixels
from ppl_models.gaussian_classes import EXAMPLE as CLOUDS
from ppl_models.gaussian_classes import gaussian_classes

CLASSES, PIXELS, LEVELS = EXAMPLE[0][1:]


@pytest.fixture(scope="module")
def images():
    return fit(binomial_pixels, EXAMPLE[1], EXAMPLE[0], restarts=1, draws=200, seed=0)


@pytest.fixture(scope="module")
def clouds():
    return fit(gaussian_classes, CLOUDS[1], CLOUDS[0], restarts=1, draws=200, seed=0)


def flat(posterior):
    return {name: value.flatten(0, 1) for name, value in posterior.draws.items()}


def pixel_joint(draws, x, seen=True):
    """log p(x_i, y_i = c | theta_s) of the seen pixels: (draws, rows, classes)."""
    x, seen = torch.as_tensor(np.asarray(x)).double(), torch.as_tensor(seen)
    log_p = dist.Binomial(LEVELS, draws["ink"][:, None], validate_args=False).log_prob(x[:, None])
    return draws["weights"].log()[:, None] + (log_p * seen).sum(-1)


def pixel_joint_masked(draws, x):
    seen = torch.from_numpy(~np.ma.getmaskarray(x))[:, None].double()
    return pixel_joint(draws, np.ma.getdata(x), seen)


def inverted(joint):
    return joint.logsumexp(0).softmax(-1)


@pytest.fixture
def x():
    return torch.randint(0, LEVELS + 1, (7, PIXELS), generator=torch.Generator().manual_seed(1))


def test_pixels_by_hand(images, x):
    found = images.probabilities("y", given={"x": x})
    torch.testing.assert_close(found, inverted(pixel_joint(flat(images), x)), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(found.sum(-1), torch.ones(7, dtype=found.dtype))


def test_averaging_over_the_draws_is_another_number(images, x):
    joint = pixel_joint(flat(images), x)
    naive = joint.softmax(-1).mean(0)
    assert (images.probabilities("y", given={"x": x}) - naive).abs().max() > 1e-3


def test_the_rows_are_counted_or_told(images, x):
    expected = images.probabilities("y", given={"x": x})
    told = images.probabilities("y", given={"x": x}, args=(7, CLASSES, PIXELS, LEVELS))
    torch.testing.assert_close(told, expected)
    torch.testing.assert_close(images.probabilities("y", given={"x": x[:1]}), expected[:1])


def test_clouds_by_hand(clouds):
    draws, x = (
        flat(clouds),
        torch.tensor([[2.0, -3.0], [-3.0, 4.5], [3.0, 3.0], [40.0, 2.5]], dtype=torch.float64),
    )
    log_p = dist.MultivariateNormal(draws["mean"][:, None], precision_matrix=draws["precision"][:, None])
    joint = draws["weights"].log()[:, None] + log_p.log_prob(x[:, None])
    found = clouds.probabilities("y", given={"x": x})
    torch.testing.assert_close(found, inverted(joint), rtol=1e-6, atol=1e-6)


def test_missing_pixels_are_left_out(images, x):
    mask = np.zeros((7, PIXELS), dtype=bool)
    mask[0, :2], mask[1], mask[5, 1] = True, True, True
    masked = np.ma.masked_array(x.numpy(), mask)
    expected = inverted(pixel_joint_masked(flat(images), masked))
    found = images.probabilities("y", given={"x": masked})
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
    empty = flat(images)["weights"].mean(0)  # of an image of which nothing was seen
    torch.testing.assert_close(found[1], empty, rtol=1e-6, atol=1e-6)


def test_known_labels_stay_known(images, x):
    y = np.ma.masked_array([3, 0, 2, 0, 0, 1, 0], [0, 1, 0, 1, 1, 0, 1])
    found = images.probabilities("y", given={"x": x, "y": y})
    free = images.probabilities("y", given={"x": x})
    missing = torch.from_numpy(y.mask)
    torch.testing.assert_close(found[missing], free[missing], rtol=1e-6, atol=1e-6)
    assert (found[~missing].argmax(-1) == torch.tensor([3, 2, 1])).all()
    assert (found[~missing].amax(-1) == 1).all()


def test_half_labelled_data():
    """Labels missing in the data are summed out of the fit; of the fitted rows E[p(y | x, theta)]."""
    data = {"x": EXAMPLE[1]["x"], "y": np.ma.masked_array(EXAMPLE[1]["y"].numpy(), [0, 1, 0, 1, 0, 0])}
    posterior = fit(binomial_pixels, data, EXAMPLE[0], restarts=1, draws=200, seed=0)
    found = posterior.probabilities("y")
    by_hand = pixel_joint(flat(posterior), data["x"]).softmax(-1).mean(0)
    unknown = torch.from_numpy(data["y"].mask)
    torch.testing.assert_close(found[unknown], by_hand[unknown], rtol=1e-6, atol=1e-6)
    known = torch.nn.functional.one_hot(EXAMPLE[1]["y"], CLASSES).double()
    torch.testing.assert_close(found[~unknown], known[~unknown])


def test_plug_in_is_naive_bayes():
    """At the exact posterior means: scikit-learn's MultinomialNB(alpha=1) on [x, levels - x], to 1e-9."""
    from sklearn.naive_bayes import MultinomialNB

    generator = torch.Generator().manual_seed(5)
    y = torch.randint(0, CLASSES, (40,), generator=generator)
    x, new = (torch.randint(0, LEVELS + 1, (n, PIXELS), generator=generator) for n in (40, 9))
    counts = torch.bincount(y, minlength=CLASSES).double()
    drops = torch.zeros(CLASSES, PIXELS, dtype=torch.float64).index_add_(0, y, x.double())
    weights = (counts + 1) / (len(y) + CLASSES)
    ink = (drops + 1) / (counts[:, None] * LEVELS + 2)
    peer = MultinomialNB(alpha=1.0, class_prior=weights.numpy())
    peer.fit(np.hstack([x, LEVELS - x]), y.numpy())
    expected = peer.predict_proba(np.hstack([new, LEVELS - new]))
    story = prior(binomial_pixels, kwargs={"classes": CLASSES, "pixels": PIXELS, "levels": LEVELS}, draws=5)
    found = story.probabilities("y", given={"x": new, "weights": weights, "ink": ink})
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=1e-9)


def coin(n):
    """A coin tossed once decides for all rows."""
    fair = pyro.sample("fair", dist.Bernoulli(0.3))
    with pyro.plate("row", n, dim=-1):
        pyro.sample("x", dist.Normal(3.0 * fair, 2.0))


def coin_odds(x, chance=0.3):
    joint = torch.stack([dist.Normal(3.0 * v, 2.0).log_prob(x).sum() for v in (0.0, 1.0)])
    return (joint + torch.tensor([1 - chance, chance]).double().log()).softmax(-1)


def test_a_global_discrete_site():
    x, new = torch.tensor([1.0, 3.0]).double(), torch.tensor([0.5, 5.0, 2.5]).double()
    posterior = fit(coin, {"x": x})
    torch.testing.assert_close(posterior.probabilities("fair"), coin_odds(x))
    # 4,000 draws of the coin: an error of at most 4 sqrt(.25 / 4000) = .032 before the new rows
    found = posterior.probabilities("fair", given={"x": new})
    torch.testing.assert_close(found, coin_odds(torch.cat([x, new])), rtol=0, atol=0.05)
    torch.testing.assert_close(
        prior(coin, draws=4000).probabilities("fair", given={"x": x}), coin_odds(x), rtol=0, atol=0.05
    )


CHANCE, CENTRE = torch.tensor([0.3, 0.7]), torch.tensor([-2.0, 2.0])


def noisy(n):
    """A discrete site, a continuous one that depends on it, and a measurement of that."""
    with pyro.plate("row", n, dim=-1):
        y = pyro.sample("y", dist.Categorical(CHANCE))
        z = pyro.sample("z", dist.Normal(CENTRE[y], 1.0))
        pyro.sample("x", dist.Normal(z, 0.5))


def noisy_odds(x):
    return (dist.Normal(CENTRE, 1.25**0.5).log_prob(x[:, None]) + CHANCE.log()).softmax(-1).double()


def test_a_site_behind_a_continuous_one():
    """4 Monte Carlo errors of 2,000 draws, and of 1,000 simulated z with the weights p(x | z)."""
    x = torch.tensor([-1.0, 0.2, 1.5])
    posterior = fit(noisy, {"x": x}, restarts=2, draws=1000, seed=0)
    expected = noisy_odds(x)
    torch.testing.assert_close(posterior.probabilities("y"), expected, rtol=0, atol=4 * 0.5 / 2000**0.5)
    for story in (posterior, prior(noisy)):
        found = story.probabilities("y", given={"x": x})
        torch.testing.assert_close(found, expected, rtol=0, atol=0.1)


def test_a_site_behind_a_continuous_one_keeps_what_is_known():
    x = torch.tensor([-1.0, 0.2, 1.5])
    y = np.ma.masked_array([1, 1, 0], [True, False, True])
    found = prior(noisy).probabilities("y", given={"x": x, "y": y})
    assert found[1].tolist() == [0.0, 1.0]
    assert (found[[0, 2]] - noisy_odds(x)[[0, 2]]).abs().max() < 0.1


def test_two_summed_sites(x):
    """p(a | x) and p(b | x) with a -> b -> x, by enumeration."""
    first, then = torch.tensor([0.2, 0.8]), torch.tensor([[0.9, 0.1], [0.3, 0.7]])
    centre = torch.tensor([-1.0, 2.0])

    def chain(n):
        with pyro.plate("row", n, dim=-1):
            a = pyro.sample("a", dist.Categorical(first))
            b = pyro.sample("b", dist.Categorical(then[a]))
            pyro.sample("x", dist.Normal(centre[b], 1.5))

    value = torch.tensor([-0.5, 0.4, 3.0])
    log_p = (first[:, None] * then).log() + dist.Normal(centre, 1.5).log_prob(value[:, None])[:, None, :]
    joint = log_p.flatten(1).softmax(-1).reshape(3, 2, 2).double()
    posterior = fit(chain, {"x": value})
    for ask in (posterior.probabilities, lambda site: posterior.probabilities(site, given={"x": value})):
        torch.testing.assert_close(ask("a"), joint.sum(2), rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(ask("b"), joint.sum(1), rtol=1e-5, atol=1e-6)


def test_given_global_sites_rows_are_still_separate_questions():
    """Given the centres but not the spread, which all rows share: by quadrature, 4 % for 4,000 draws."""

    def story(n):
        spread = pyro.sample("spread", dist.Gamma(3.0, 2.0))
        with pyro.plate("class", 2, dim=-1):
            mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
        with pyro.plate("row", n, dim=-1):
            y = pyro.sample("y", dist.Categorical(CHANCE))
            pyro.sample("x", dist.Normal(mu[y], spread))

    x, mu = torch.tensor([-3.0, 0.4, 2.5]), torch.tensor([-1.0, 2.0])
    found = prior(story, draws=4000).probabilities("y", given={"x": x, "mu": mu})
    spread = (torch.arange(4000).double() + 0.5) / 400
    log_p = dist.Normal(mu, spread[:, None, None]).log_prob(x[:, None]) + CHANCE.log()
    expected = (log_p + dist.Gamma(3.0, 2.0).log_prob(spread)[:, None, None]).logsumexp(0).softmax(-1)
    torch.testing.assert_close(found, expected, rtol=0, atol=0.04)


def test_a_site_behind_a_continuous_one_given_its_centre():
    """y -> z -> x with a global mean that is given: conditioned on each value of y in turn, row by row."""

    def story(n):
        shift = pyro.sample("shift", dist.Normal(0.0, 3.0))
        with pyro.plate("row", n, dim=-1):
            y = pyro.sample("y", dist.Categorical(CHANCE))
            z = pyro.sample("z", dist.Normal(CENTRE[y] + shift, 1.0))
            pyro.sample("x", dist.Normal(z, 0.5))

    x = torch.tensor([0.0, 1.2, 2.5])
    found = prior(story).probabilities("y", given={"x": x, "shift": 1.0})
    torch.testing.assert_close(found, noisy_odds(x - 1.0), rtol=0, atol=0.1)


def test_what_cannot_be_asked(images, x):
    with pytest.raises(ValueError, match="'ink', a .*log_prob"):
        images.probabilities("ink")
    with pytest.raises(ValueError, match="'y' is both given and asked for"):
        images.probabilities("y", given={"x": x, "y": torch.zeros(7, dtype=torch.long)})
    with pytest.raises(ValueError, match="'z' is not a site .*weights, ink, y, x"):
        images.probabilities("z")
    with pytest.raises(ValueError, match=r"given\['x'\].*support"):
        images.probabilities("y", given={"x": x + LEVELS})
    with pytest.raises(ValueError, match=r"'weights' is given, but 'ink' is not"):
        images.probabilities("y", given={"x": x, "weights": torch.full((CLASSES,), 1 / CLASSES)})
