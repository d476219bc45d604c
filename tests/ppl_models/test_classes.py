"""Stories of labelled rows, at scikit-learn's estimates, against scikit-learn on the same rows."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_iris
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis, QuadraticDiscriminantAnalysis
from sklearn.naive_bayes import CategoricalNB, GaussianNB, MultinomialNB

import inference
from ppl_models.diagonal_discriminant import diagonal_discriminant
from ppl_models.diagonal_discriminant import exact as diagonal_posterior
from ppl_models.gaussian_classes import gaussian_classes
from ppl_models.gaussian_naive_bayes import exact as naive_posterior
from ppl_models.gaussian_naive_bayes import gaussian_naive_bayes
from ppl_models.linear_discriminant import exact as linear_posterior
from ppl_models.linear_discriminant import linear_discriminant
from ppl_models.multinomial_naive_bayes import exact as multinomial_posterior
from ppl_models.multinomial_naive_bayes import multinomial_naive_bayes
from ppl_models.sequence_profile import encode, sequence_profile
from ppl_models.sequence_profile import exact as profile_posterior

ROWS, FEATURES, CLASSES = 150, 4, 3
SIZES = (ROWS, CLASSES, FEATURES)


@pytest.fixture(scope="module")
def iris():
    return load_iris(return_X_y=True)


def close(ours, theirs):
    torch.testing.assert_close(ours, torch.as_tensor(theirs, dtype=torch.float64), rtol=0, atol=1e-9)


def test_naive_bayes_is_sklearns_at_its_estimates(iris, log_joint):
    x, y = iris
    theirs = GaussianNB(var_smoothing=0.0).fit(x, y)
    parameters = {
        "weights": torch.tensor(theirs.class_prior_),
        "mean": torch.tensor(theirs.theta_),
        "variance": torch.tensor(theirs.var_),
    }
    table = log_joint(gaussian_naive_bayes, SIZES, parameters, x, CLASSES)
    close(table, theirs.predict_joint_log_proba(x))


def test_naive_bayes_posterior_tends_to_sklearns_estimates(iris):
    """With a prior of little weight the posterior means are the rows' averages."""
    x, y = (torch.tensor(a) for a in iris)
    theirs = GaussianNB(var_smoothing=0.0).fit(*iris)
    posterior = naive_posterior({"x": x, "y": y}, *SIZES, spread=1e-4, strength=1e-6)
    torch.testing.assert_close(posterior["mean"].mean, torch.tensor(theirs.theta_), rtol=0, atol=1e-6)
    # InverseGamma(2 + n / 2, n variance / 2) has mean n variance / (n + 2): here n = 50
    torch.testing.assert_close(
        posterior["variance"].mean * 52 / 50, torch.tensor(theirs.var_), rtol=0, atol=1e-6
    )


def test_naive_bayes_answers_with_features_missing(iris, log_joint):
    """Given the class, features are independent: a missing one is simply left out."""
    x, y = iris
    values = {"x": x[::5], "y": y[::5]}
    sizes = (None, CLASSES, FEATURES)
    fitted = inference.prior(gaussian_naive_bayes, (len(x), *sizes[1:], 3.0, 2.0), draws=200, seed=0)
    unseen = np.ma.masked_array(values["x"], mask=np.tile([False, True, True, False], (len(values["x"]), 1)))
    ours = fitted.probabilities("y", {"x": unseen})
    theta = {n: v.flatten(0, 1) for n, v in fitted.draws.items()}
    kept = [0, 3]
    normal = torch.distributions.Normal(theta["mean"][..., kept], theta["variance"][..., kept].sqrt())
    log_p = normal.log_prob(torch.tensor(values["x"])[:, None, None, kept]).sum(-1)
    joint = (log_p + theta["weights"].log()).logsumexp(1)
    close(ours, joint.softmax(-1))


def test_linear_discriminant_is_sklearns_at_its_estimates(iris, log_joint):
    x, y = iris
    theirs = LinearDiscriminantAnalysis(solver="lsqr", store_covariance=True).fit(x, y)
    parameters = {
        "weights": torch.tensor(theirs.priors_),
        "mean": torch.tensor(theirs.means_),
        "precision": torch.tensor(theirs.covariance_).inverse(),
    }
    table = log_joint(linear_discriminant, SIZES, parameters, x, CLASSES)
    close(table.softmax(-1), theirs.predict_proba(x))


def test_diagonal_discriminant_is_the_naive_story_with_one_variance(iris, log_joint):
    """At the same estimates, and with a prior of little weight its posterior means are the rows' averages."""
    x, y = (torch.tensor(a) for a in iris)
    posterior = diagonal_posterior({"x": x, "y": y}, *SIZES, spread=1e-4, strength=1e-6)
    theirs = LinearDiscriminantAnalysis(solver="lsqr", store_covariance=True).fit(*iris)
    torch.testing.assert_close(posterior["mean"].mean, torch.tensor(theirs.means_), rtol=0, atol=1e-6)
    # InverseGamma(2 + n / 2, n variance / 2) has mean n variance / (n + 2)
    variance = posterior["variance"].mean * (ROWS + 2) / ROWS
    torch.testing.assert_close(variance, torch.tensor(np.diag(theirs.covariance_)), rtol=0, atol=1e-6)
    parameters = {n: posterior[n].mean for n in ("weights", "mean", "variance")}
    naive = {**parameters, "variance": parameters["variance"].expand(CLASSES, FEATURES)}
    ours = log_joint(diagonal_discriminant, SIZES, parameters, *iris[:1], CLASSES)
    close(ours, log_joint(gaussian_naive_bayes, SIZES, naive, *iris[:1], CLASSES))


def test_linear_discriminant_posterior_tends_to_sklearns_estimates(iris):
    x, y = (torch.tensor(a) for a in iris)
    theirs = LinearDiscriminantAnalysis(solver="lsqr", store_covariance=True).fit(*iris)
    posterior = linear_posterior({"x": x, "y": y}, *SIZES, spread=1e-5, strength=1e-7)
    # E[precision] = df covariance^-1 / n with df = features + 2 + n
    covariance = (posterior["precision"].mean / (FEATURES + 2 + ROWS) * ROWS).inverse()
    torch.testing.assert_close(covariance, torch.tensor(theirs.covariance_), rtol=0, atol=1e-6)


def test_linear_discriminant_has_linear_boundaries(log_joint):
    """Log odds of two classes are linear in x: on a line, their second differences vanish."""
    parameters = {
        "weights": torch.tensor([0.2, 0.8], dtype=torch.float64),
        "mean": torch.tensor([[1.0, -2.0], [3.0, 0.5]], dtype=torch.float64),
        "precision": torch.tensor([[2.0, 0.6], [0.6, 0.9]], dtype=torch.float64),
    }
    x = torch.linspace(-3, 4, 15, dtype=torch.float64)[:, None] * torch.tensor([1.0, 2.0]).double()
    table = log_joint(linear_discriminant, (15, 2, 2), parameters, x, 2)
    odds = table[:, 0] - table[:, 1]
    close(odds.diff().diff(), torch.zeros(13, dtype=torch.float64))
    assert table[:, 0].diff().diff().abs().min() > 0.1  # and yet each cloud is curved


def test_quadratic_discriminant_is_sklearns_at_its_estimates(iris, log_joint):
    x, y = iris
    theirs = QuadraticDiscriminantAnalysis(store_covariance=True).fit(x, y)
    parameters = {
        "weights": torch.tensor(theirs.priors_),
        "mean": torch.tensor(theirs.means_),
        "precision": torch.tensor(np.stack(theirs.covariance_)).inverse(),
    }
    table = log_joint(gaussian_classes, SIZES, parameters, x, CLASSES)
    close(table.softmax(-1), theirs.predict_proba(x))


def test_multinomial_is_sklearns_at_its_estimates(log_joint):
    generator = np.random.default_rng(0)
    y = generator.integers(0, 3, 40)
    x = generator.poisson(generator.gamma(2.0, 1.0, (3, 6))[y] + 0.3).astype(float)
    theirs = MultinomialNB(alpha=0.7).fit(x, y)
    args = (torch.tensor(x.sum(-1)), 3, 6, 0.7)
    posterior = multinomial_posterior({"x": torch.tensor(x), "y": torch.tensor(y)}, *args)
    parameters = {
        "frequency": posterior["frequency"].mean,
        "weights": torch.tensor(theirs.class_log_prior_).exp(),
    }
    table = log_joint(multinomial_naive_bayes, args, parameters, x, 3)
    close(table.softmax(-1), theirs.predict_proba(x))
    close(
        table[:, 1] - table[:, 0],
        theirs.predict_joint_log_proba(x)[:, 1] - theirs.predict_joint_log_proba(x)[:, 0],
    )


def test_multinomial_refuses_documents_of_another_length():
    lengths = torch.tensor([3, 5])
    x = torch.tensor([[1.0, 2.0], [3.0, 3.0]])  # the second has 6 words
    with pytest.raises(ValueError, match=r"data\['x'\].*got 1 outside"):
        inference.fit(multinomial_naive_bayes, {"x": x, "y": torch.tensor([0, 1])}, (lengths, 2, 2))


def test_profile_is_sklearns_at_its_estimates(log_joint):
    generator = np.random.default_rng(1)
    y = np.repeat([0, 1, 2], 10)
    favourite = generator.integers(0, 20, (3, 7))
    x = np.where(generator.random((30, 7)) < 0.6, favourite[y], generator.integers(0, 20, (30, 7)))
    theirs = CategoricalNB(alpha=0.25, min_categories=20).fit(x, y)
    args = (30, 3, 7, 20, 0.25 * 20)
    posterior = profile_posterior({"x": torch.tensor(x), "y": torch.tensor(y)}, *args)
    parameters = {"profile": posterior["profile"].mean, "weights": torch.full((3,), 1 / 3).double()}
    table = log_joint(sequence_profile, args, parameters, x, 3)
    close(table, theirs.predict_joint_log_proba(x))


def test_profile_sums_a_missing_letter_out():
    """Of two families that differ at the masked position only, neither is preferred."""
    args = (2, 2, 3, 4, 4.0)
    fitted = inference.prior(sequence_profile, args, draws=300, seed=0)
    x = np.array([[2, 3, 2], [2, 1, 2]])
    unseen = np.ma.masked_array(x, mask=[[False, True, False]] * 2)
    ours = fitted.probabilities("y", {"x": unseen})
    close(ours[0], ours[1])  # they differ where nobody looked
    theta = {n: v.flatten(0, 1) for n, v in fitted.draws.items()}
    joint = theta["weights"] * theta["profile"][:, :, 0, 2] * theta["profile"][:, :, 2, 2]
    close(ours[0], joint.sum(0) / joint.sum())


def test_sequences_are_read_and_refused():
    assert encode(["AY", "CA"]).tolist() == [[0, 19], [1, 0]]
    with pytest.raises(ValueError, match="of one length, got lengths"):
        encode(["AC", "ACD"])
    with pytest.raises(ValueError, match="got '-'"):
        encode(["A-C"])
