"""Logistic regression at its posterior mode against scikit-learn with the matching penalty."""

import numpy as np
import pytest
import torch
from pyro import poutine
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

import inference
from inference.runtime.isolation import isolated
from inference.story.call import Call
from ppl_models.logistic_regression import EXAMPLE, logistic_regression

SPREAD = 1.5


def mode(covariates, y, classes):
    """The coefficients at which log p(coefficients, y) is largest, by L-BFGS on the story itself."""
    point = torch.zeros(covariates.shape[1], classes, dtype=torch.float64, requires_grad=True)
    search = torch.optim.LBFGS([point], max_iter=500, tolerance_grad=1e-10, line_search_fn="strong_wolfe")

    def loss():
        search.zero_grad()
        story = Call.bind(logistic_regression, (covariates, classes, SPREAD))
        with isolated(0):
            trace = poutine.trace(poutine.condition(story, {"coefficients": point, "y": y})).get_trace()
            value = -trace.log_prob_sum()
        value.backward()
        return value

    search.step(loss)
    return point.detach()


@pytest.mark.parametrize(("classes", "penalty"), [(3, SPREAD**2), (2, 2 * SPREAD**2)])
def test_mode_is_sklearns_estimate(classes, penalty):
    """Coefficients to 1e-4, probabilities to 1e-5: sklearn stops at a gradient of 1e-8 in its own scale."""
    x, y = load_iris(return_X_y=True)
    x, y = x[y < classes], y[y < classes]
    x = np.column_stack([np.ones(len(x)), (x - x.mean(0)) / x.std(0)])
    theirs = LogisticRegression(C=penalty, fit_intercept=False, tol=1e-8, max_iter=10_000).fit(x, y)
    found = mode(torch.tensor(x), torch.tensor(y), classes)
    probabilities = (torch.tensor(x) @ found).softmax(-1)
    torch.testing.assert_close(probabilities, torch.tensor(theirs.predict_proba(x)), rtol=0, atol=1e-5)
    ours = found.T if classes > 2 else (found[:, 1] - found[:, 0])[None]
    torch.testing.assert_close(ours, torch.tensor(theirs.coef_), rtol=0, atol=1e-4)


def test_it_answers_one_question_only():
    """It predicts y for new covariates, and has nothing to say about x."""
    (covariates, classes, spread), data = EXAMPLE
    args = (covariates[:7], classes, spread)
    posterior = inference.prior(logistic_regression, args, draws=100, seed=0)
    predicted = posterior.probabilities("y", {}, args=args)
    assert predicted.shape == (7, classes)
    with pytest.raises(ValueError, match="'x' is not a"):
        posterior.log_prob({"x": covariates})
