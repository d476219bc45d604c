"""A change point found: the fitted rates and the inverted year against the closed form."""

import torch

from inference import fit
from ppl_models.change_point import change_point, exact

# Fixed before any result was seen: 3.1 events a year for 14 years, then 0.9, as in the coal mines' record.
COUNTS = torch.poisson(
    torch.where(torch.arange(30) < 14, 3.1, 0.9), generator=torch.Generator().manual_seed(1)
)


def test_the_fit_is_the_closed_form():
    """Moments within 4 Monte Carlo errors of 4,000 draws, plus 1 % of a stddev for the guide.

    The year's probabilities are averages over the draws of numbers between 0 and 1: stddev .5 at most.
    """
    posterior = fit(change_point, {"y": COUNTS}, (30,), restarts=2, draws=2000, seed=0)
    assert posterior.certificate.trusted, str(posterior.certificate)
    known = exact({"y": COUNTS}, 30)
    error = (1 / 4000) ** 0.5
    for name in ("early", "late"):
        draws, law = posterior.draws[name].flatten(), known[name]
        assert abs(draws.mean() - law.mean) < (4 * error + 0.01) * law.stddev
        assert abs(draws.std() / law.stddev - 1) < 4 * error + 0.01
    assert set(posterior.draws) == {"early", "late"}
    year = posterior.probabilities("change", given={})
    assert (year - known["change"].probs).abs().max() < 4 * 0.5 * error


def test_the_year_is_an_average_of_its_conditional_probabilities():
    """p(change | y) = E[p(change | early, late, y)] over the rates, by numerical integration."""
    grid = torch.linspace(0.01, 12, 161, dtype=torch.float64)
    early, late = torch.meshgrid(grid, grid, indexing="ij")
    log_p = torch.distributions.Gamma(2.0, 1.0).log_prob(torch.stack([early, late])).sum(0)
    y, years = COUNTS.double(), torch.arange(30)
    shares = []
    for change in range(30):
        rate = torch.where(years < change, early[..., None], late[..., None])
        shares.append((log_p + torch.distributions.Poisson(rate).log_prob(y).sum(-1)).logsumexp((0, 1)))
    expected = torch.stack(shares).softmax(0)
    found = exact({"y": COUNTS}, 30)["change"].probs
    # The sum over 161 x 161 points misses the corner below .01, of probability 1e-4 at most.
    torch.testing.assert_close(found, expected, rtol=2e-3, atol=2e-4)
    assert found.argmax() in range(11, 18)
