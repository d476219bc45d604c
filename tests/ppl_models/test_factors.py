"""Stories of factors and clouds, at scikit-learn's estimates, against scikit-learn on the same rows."""

import math

import numpy as np
import pytest
import torch
from pyro import distributions as dist
from sklearn.datasets import load_iris
from sklearn.decomposition import PCA, FactorAnalysis
from sklearn.mixture import GaussianMixture

from inference.density.log_density import LogDensity
from inference.story.call import Call
from inference.story.inspection import inspect_story
from inference.story.observations import as_observations
from ppl_models.distributions.factors import as_trapezoid, below_diagonal, squares, trapezoid
from ppl_models.factor_analysers import factor_analysers, mode
from ppl_models.factor_analysis import exact as factors_given
from ppl_models.factor_analysis import factor_analysis
from ppl_models.gaussian_mixture import exact as clouds_given
from ppl_models.gaussian_mixture import gaussian_mixture
from ppl_models.probabilistic_pca import maximum, probabilistic_pca

ROWS, FEATURES, FACTORS = 200, 6, 2


def close(ours, theirs, error=1e-9):
    torch.testing.assert_close(ours, torch.as_tensor(theirs, dtype=torch.float64), rtol=0, atol=error)


def told(loading):
    """The story's sites for a loading: its trapezoid's squared diagonal and what lies below it."""
    lower = as_trapezoid(loading)
    features, factors = lower.shape
    row, column = torch.tril_indices(features, factors, -1)
    return {"square": lower.diagonal() ** 2, "below": lower[row, column]}


@pytest.fixture(scope="module")
def x():
    """Rows of a factor model with noise that differs between features."""
    generator = np.random.default_rng(0)
    z, loading = generator.normal(size=(ROWS, FACTORS)), generator.normal(size=(FACTORS, FEATURES))
    noise = generator.uniform(0.3, 0.9, FEATURES) * generator.normal(size=(ROWS, FEATURES))
    return torch.tensor(generator.normal(size=FEATURES) + 2 * z @ loading + noise)


@pytest.fixture(scope="module")
def analysis(x):
    return FactorAnalysis(FACTORS, svd_method="lapack", tol=1e-8, max_iter=5000).fit(x.numpy())


@pytest.mark.parametrize("factors", [1, 2, 4])
def test_maximum_is_sklearns_probabilistic_pca(x, factors):
    """PCA divides by rows - 1; its score is the density at those estimates."""
    theirs = PCA(factors, svd_solver="full").fit(x.numpy())
    ours = maximum(x, factors, correction=1)
    close(ours.density.log_prob(x).mean(), theirs.score(x.numpy()), 1e-8)
    close(ours.density.log_prob(x), theirs.score_samples(x.numpy()), 1e-8)
    close(ours.loading / ours.loading.norm(dim=0), theirs.components_.T * signs(ours, theirs), 1e-8)


def signs(ours, theirs):
    return np.sign((ours.loading.numpy() * theirs.components_.T).sum(0))


def test_maximum_has_no_slope_and_no_better_neighbour(x):
    best = maximum(x, FACTORS)
    top = best.density.log_prob(x).mean()
    point = [p.clone().requires_grad_() for p in (best.mean, best.loading, best.variance.log())]

    def height(mean, loading, log_variance):
        noise = log_variance.exp().expand(FEATURES)
        return dist.LowRankMultivariateNormal(mean, loading, noise).log_prob(x).mean()

    slopes = torch.autograd.grad(height(*point), point)
    assert max(float(g.abs().max()) for g in slopes) < 1e-10
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        moved = [p + 0.05 * torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in point]
        assert height(*moved) < top
    assert maximum(x, FACTORS, correction=1).density.log_prob(x).mean() < top


def test_maximum_refuses_what_has_none(x):
    with pytest.raises(ValueError, match="factors: expected 1 to features - 1 = 5, got 6"):
        maximum(x, 6)
    with pytest.raises(ValueError, match="likelihood has no maximum"):
        maximum(x[:3], 2)  # three rows lie in a plane
    with pytest.raises(ValueError, match=r"x: expected \(rows, features\)"):
        maximum(x[0], 2)


def test_pca_story_at_the_maximum_is_its_density(x, log_densities):
    best = maximum(x, FACTORS)
    z = torch.zeros(ROWS, FACTORS, dtype=torch.float64)
    values = {"mean": best.mean, "variance": best.variance, "x": x, "z": z, **told(best.loading)}
    args = (ROWS, FEATURES, FACTORS)
    close(log_densities(probabilistic_pca, args, values, ["x"]), best.density.log_prob(x))


def test_pca_told_backwards_is_factor_analysis_told_forwards(x, log_densities):
    """p(x) p(z | x) = p(z) p(x | z), at any z."""
    best = maximum(x, FACTORS)
    args = (ROWS, FEATURES, FACTORS)
    z = torch.randn(ROWS, FACTORS, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    values = {"mean": best.mean, "x": x, "z": z, **told(best.loading)}
    backwards = log_densities(probabilistic_pca, args, {**values, "variance": best.variance}, ["x", "z"])
    noise = best.variance.expand(FEATURES)
    forwards = log_densities(factor_analysis, args, {**values, "variance": noise}, ["x", "z"])
    close(backwards, forwards)


def test_factor_analysis_is_sklearns_at_its_estimates(x, analysis, log_densities):
    """log p(x) = log p(z) + log p(x | z) - log p(z | x), at any z."""
    loading = torch.tensor(analysis.components_.T)
    parameters = {
        "mean": torch.tensor(analysis.mean_),
        "variance": torch.tensor(analysis.noise_variance_),
        **told(loading),
    }
    args = (ROWS, FEATURES, FACTORS)
    z = torch.randn(ROWS, FACTORS, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    joint = log_densities(factor_analysis, args, {**parameters, "x": x, "z": z}, ["x", "z"])
    posterior = factors_given({"x": x}, *args, given=parameters)["z"]
    close(joint - posterior.log_prob(z), analysis.score_samples(x.numpy()), 1e-8)
    # the factors' means are sklearn's, up to the rotation of the trapezoid
    theirs = torch.tensor(analysis.transform(x.numpy())) @ loading.T
    close(posterior.mean @ as_trapezoid(loading).T, theirs, 1e-8)


def test_factor_analysis_asks_for_what_it_needs(x):
    with pytest.raises(ValueError, match="given: expected values of mean, square, below, variance"):
        factors_given({"x": x}, ROWS, FEATURES, FACTORS, given={"mean": x[0]})
    with pytest.raises(ValueError, match="factors: expected 1 to features - 1 = 2, got 3"):
        factor_analysis(5, 3, 3)


def test_one_analyser_is_sklearns_factor_analysis(x, analysis, log_joint):
    parameters = {
        "weights": torch.ones(1, dtype=torch.float64),
        "mean": torch.tensor(analysis.mean_)[None],
        "variance": torch.tensor(analysis.noise_variance_)[None],
        **{name: v[None] for name, v in told(torch.tensor(analysis.components_.T)).items()},
    }
    table = log_joint(factor_analysers, (ROWS, 1, FEATURES, FACTORS), parameters, x, 1)
    close(table[:, 0], analysis.score_samples(x.numpy()), 1e-8)


def test_analysers_are_one_of_sklearns_per_class(log_joint):
    x, y = load_iris(return_X_y=True)
    theirs = [FactorAnalysis(2, svd_method="lapack").fit(x[y == c]) for c in range(3)]
    parts = [told(torch.tensor(one.components_.T)) for one in theirs]
    parameters = {
        "weights": torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64),
        "mean": torch.tensor(np.stack([one.mean_ for one in theirs])),
        "variance": torch.tensor(np.stack([one.noise_variance_ for one in theirs])),
        **{name: torch.stack([p[name] for p in parts]) for name in ("square", "below")},
    }
    table = log_joint(factor_analysers, (len(x), 3, 4, 2), parameters, x, 3)
    expected = np.stack([one.score_samples(x) for one in theirs], -1) + np.log([0.2, 0.5, 0.3])
    close(table, expected, 1e-8)


def test_mode_of_analysers_has_no_slope(x):
    """Of log p(x, parameters) per class, in loadings that are free to rotate; and neighbours are lower."""
    y = (x[:, 0] > x[:, 0].median()).long()
    prior = {"location": 0.3, "reach": 4.0, "spread": 1.5, "noise": 0.4}
    found = mode({"x": x, "y": y}, ROWS, 2, FEATURES, FACTORS, **prior, steps=1500)
    close(found["weights"], [0.5, 0.5])
    for c in range(2):
        loading = trapezoid(found["square"][c], found["below"][c])
        point = [v.clone().requires_grad_() for v in (found["mean"][c], loading, found["variance"][c])]

        def height(mean, loading, variance, rows=x[y == c]):
            covariance = loading @ loading.T + torch.diag(variance)
            return (
                dist.MultivariateNormal(mean, covariance).log_prob(rows).sum()
                + dist.Normal(0.3, 4.0).log_prob(mean).sum()
                + dist.Normal(0.0, 1.5).log_prob(loading).sum()
                + dist.InverseGamma(2.0, 0.4**2).log_prob(variance).sum()
            )

        top = height(*point)
        slopes = torch.autograd.grad(top, point)
        # a slope of .01 at curvatures above 1 is 5e-5 nats below the top; the start's slopes exceed 10
        assert max(float(s.abs().max()) for s in slopes) < 1e-2
        generator = torch.Generator().manual_seed(c)
        for _ in range(10):
            moved = [p * (1 + 0.02 * torch.randn(p.shape, generator=generator).double()) for p in point]
            assert height(*moved) < top


def test_mode_of_analysers_asks_for_rows_of_every_class(x):
    with pytest.raises(ValueError, match=r"at least 2 rows of every class, got counts \[1, 5, 0\]"):
        mode({"x": x[:6], "y": torch.tensor([1, 1, 1, 1, 1, 0])}, 6, 3, FEATURES, FACTORS)


def test_mixture_is_sklearns_at_its_estimates(log_joint):
    x, _ = load_iris(return_X_y=True)
    theirs = GaussianMixture(3, random_state=0).fit(x)
    order = np.argsort(theirs.means_[:, 0])
    parameters = {
        "weights": torch.tensor(theirs.weights_[order]),
        "first": torch.tensor(theirs.means_[order, 0]),
        "rest": torch.tensor(theirs.means_[order, 1:]),
        "precision": torch.tensor(theirs.precisions_[order]),
    }
    args = (len(x), 3, 4)
    table = log_joint(gaussian_mixture, args, parameters, x, 3)
    close(table.logsumexp(-1), theirs.score_samples(x), 1e-8)
    responsibility = clouds_given({"x": torch.tensor(x)}, *args, given=parameters)["y"].probs
    close(responsibility, theirs.predict_proba(x)[:, order], 1e-8)
    close(responsibility, table.softmax(-1))


def test_the_prior_of_a_trapezoid_is_that_of_a_free_loading():
    """L L' of the story's prior and W W' of independent normals: all entries' means and variances agree.

    4 standard errors at 40,000 draws each.
    """
    draws, spread = 40_000, 1.7
    generator = torch.Generator().manual_seed(3)
    free = spread * torch.randn(draws, 3, 2, generator=generator, dtype=torch.float64)
    with torch.random.fork_rng():
        torch.manual_seed(4)
        square = squares(2, spread).expand([draws, 2]).sample()
        below = spread * torch.randn(draws, below_diagonal(3, 2))
    products = [w @ w.mT for w in (free, trapezoid(square, below).double())]
    for power in (1, 2):
        moments = [(p**power).mean(0) for p in products]
        errors = [(p**power).std(0) / math.sqrt(draws) for p in products]
        assert ((moments[0] - moments[1]).abs() < 4 * torch.hypot(*errors)).all()


def test_pca_rows_are_folded_although_z_is_told_after_them(x):
    """Nothing that was seen depends on z, so a fit needs the rows only through their sums."""
    args = (ROWS, FEATURES, FACTORS)
    structure, observations = inspect_story(Call.bind(probabilistic_pca, args), as_observations({"x": x}))
    density = LogDensity(structure, observations)
    assert density.folded is not None and density.traced
    assert density.names == ("mean", "square", "below", "variance")
