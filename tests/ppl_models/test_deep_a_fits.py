"""The deep stories with a guide, fitted: answers that are known, in seconds."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from pyro.infer import TraceMeanField_ELBO

from experiments.truth.images.digits import load
from inference import fit
from ppl_models.conditional_vae import conditional_vae
from ppl_models.diffusion import diffusion
from ppl_models.linear_vae import linear_vae
from ppl_models.semi_supervised_vae import semi_supervised_vae

LEVELS = 4
# Ink of three classes on six pixels: far apart, and none of it 0 or 1.
INK = torch.tensor(
    [[0.9, 0.9, 0.1, 0.1, 0.5, 0.5], [0.1, 0.1, 0.9, 0.9, 0.5, 0.5], [0.5, 0.5, 0.1, 0.9, 0.9, 0.1]]
)


def classes(n, seed):
    """Rows of three classes of binomial pixels: x, y."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.randint(3, (n,), generator=generator)
    x = torch.binomial(torch.full((n, 6), float(LEVELS)), INK[y], generator=generator)
    return x, y


def best_accuracy(x, y):
    """Of Bayes' rule with the true ink and equal class weights."""
    log_p = torch.distributions.Binomial(LEVELS, INK).log_prob(x[:, None]).sum(-1)
    return (log_p.argmax(-1) == y).double().mean().item()


def rows(n, features, factors, seed):
    """Rows that a few factors explain but for noise of standard deviation .6; unlike scales, far from 0."""
    g = torch.Generator().manual_seed(seed)
    mix = torch.randn(factors, features, generator=g) * torch.linspace(2.0, 1.2, factors)[:, None]
    noise = 0.6 * torch.randn(n, features, generator=g)
    return torch.randn(n, factors, generator=g) @ mix + noise + 2.5


def beside_principal_components(x, latents, steps, batch_size=None):
    """Fit; return log likelihood and bound short of `PCA.score`, nats a row, and the angle in degrees."""
    from sklearn.decomposition import PCA

    posterior = fit(
        partial(linear_vae, features=x.shape[1], latents=latents), {"x": x}, steps=steps,
        batch_size=batch_size, restarts=1, draws=10, seed=0,
    )  # fmt: skip
    pca = PCA(latents).fit(x.double().numpy())
    score = pca.score(x.double().numpy())
    weight, mean = posterior.story.decoder.weight.double(), posterior.story.decoder.bias.double()
    covariance = weight @ weight.T + posterior.story.stddev.double() ** 2 * torch.eye(x.shape[1]).double()
    law = torch.distributions.MultivariateNormal(mean, covariance)
    cosines = torch.linalg.svdvals(torch.linalg.qr(weight)[0].T @ torch.as_tensor(pca.components_).T)
    angle = math.degrees(math.acos(min(1.0, cosines.min().item())))
    short = score - law.log_prob(x.double()).mean().item()
    return short, score - posterior.certificate.elbo / len(x), angle


def test_a_linear_vae_finds_principal_components():
    short, bound_short, angle = beside_principal_components(rows(300, 5, 2, seed=3), 2, steps=800)
    assert 0 <= short < 0.02
    assert bound_short < 0.02
    assert angle < 2


@pytest.mark.slow
def test_a_linear_vae_finds_principal_components_of_digits():
    x = load().train.x.float() / 16
    noise = 0.1 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    short, bound_short, angle = beside_principal_components(x + noise, 2, steps=3000, batch_size=None)
    assert 0 <= short < 0.02
    assert bound_short < 0.02
    assert angle < 2


def test_a_conditional_vae_is_inverted_by_bayes_rule():
    x, y = classes(400, seed=1)
    new, labels = classes(300, seed=2)
    story = partial(conditional_vae, features=6, latents=2, hidden=16, classes=3, levels=LEVELS)
    posterior = fit(story, {"x": x, "y": y}, steps=250, restarts=1, draws=10, seed=0)
    p = posterior.probabilities("y", given={"x": new})
    assert p.shape == (300, 3)
    torch.testing.assert_close(p.sum(-1), torch.ones(300).double())
    best = best_accuracy(new, labels)
    error = math.sqrt(best * (1 - best) / 300)
    assert (p.argmax(-1) == labels).double().mean() > best - 4 * error
    drawn = posterior.sample("x", given={"y": torch.full((300,), 2)}, seed=1)
    # 4 Monte Carlo errors of a mean of 300 binomial shares, and as many of what 400 / 3 rows have told
    error = (INK[2] * (1 - INK[2]) / LEVELS * (1 / 300 + 3 / 400)).sqrt()
    assert ((drawn.mean(0) / LEVELS - INK[2]).abs() < 4 * error + 0.02).all()
    torch.testing.assert_close(
        posterior.story.weights.double(), torch.bincount(y) / 400.0, atol=0.02, rtol=0.0, check_dtype=False
    )


def test_m2_learns_from_rows_without_a_label():
    """Two labelled rows of each class; the rest is summed out."""
    x, y = classes(400, seed=3)
    new, labels = classes(300, seed=4)
    hidden = np.ones(400, dtype=bool)
    for label in range(3):
        hidden[(y == label).nonzero()[:2, 0].numpy()] = False
    story = partial(semi_supervised_vae, features=6, latents=2, hidden=16, classes=3, levels=LEVELS)
    seen = {"x": x, "y": np.ma.masked_array(y.numpy(), mask=hidden)}
    posterior = fit(story, seen, steps=250, batch_size=200, restarts=1, draws=10, seed=0)
    best = best_accuracy(new, labels)
    error = math.sqrt(best * (1 - best) / 300)
    by_guide = posterior.guide.logits(new).argmax(-1)
    by_bayes = posterior.probabilities("y", given={"x": new}).argmax(-1)
    assert (by_guide == labels).double().mean() > best - 4 * error
    assert (by_bayes == labels).double().mean() > best - 4 * error


def test_diffusion_learns_a_gaussian():
    """N(2, .5^2) with 10 steps: with trained variances nothing but the network's training is lost."""
    x = 2.0 + 0.5 * torch.randn(1000, 1, generator=torch.Generator().manual_seed(5))
    story = partial(diffusion, features=1, steps=10, hidden=16, location=2.0)
    posterior = fit(
        story, {"x": x}, loss=TraceMeanField_ELBO(), steps=400, batch_size=100, restarts=1, draws=10, seed=0
    )
    new = 2.0 + 0.5 * torch.randn(300, 1, generator=torch.Generator().manual_seed(6))
    value = posterior.log_prob({"x": new})
    known = torch.distributions.Normal(2.0, 0.5).log_prob(new[:, 0]).double()
    gap = known - value
    assert gap.mean() < 0.03 + 4 * gap.std() / math.sqrt(300)
    assert gap.mean() > -4 * gap.std() / math.sqrt(300)
    drawn = posterior.sample("x", args=(2000,), seed=2)
    assert abs(drawn.mean() - 2.0) < 4 * 0.5 / math.sqrt(2000) + 0.03
    assert abs(drawn.std() - 0.5) < 4 * 0.5 / math.sqrt(4000) + 0.03
