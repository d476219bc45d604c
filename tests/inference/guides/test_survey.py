"""Places all over the prior: they reach as far as it does, and every wide enough mode has its peak."""

import torch

from inference.guides.survey import Survey


class Bumps:
    """Two problems: unit bumps along a line, at places of their own."""

    count, size, cost, gradient_calls = 2, 1, 1, 0
    centres = (torch.tensor([-6.0, 0.0, 5.0]).double(), torch.tensor([2.0]).double())

    def log_prob(self, z, which=None):
        return torch.stack(
            [(-(one - c).square() / 2).logsumexp(-1) for one, c in zip(z, self.centres, strict=True)]
        )


def drawn(size=1, count=24, stddev=3.0):
    generator = torch.Generator().manual_seed(0)
    return stddev * torch.randn(count, size, generator=generator, dtype=torch.float64)


def test_every_bump_has_one_peak_and_fewer_are_filled_up():
    survey = Survey.of(drawn(), 1, 512, seed=0)
    found = survey.peaks(Bumps(), 8)
    peaks, count = found.points, found.count
    assert count.tolist() == [3, 1] and peaks.shape == (2, 3, 1)
    torch.testing.assert_close(peaks[0, :, 0].sort().values, Bumps.centres[0], rtol=0, atol=0.1)
    torch.testing.assert_close(peaks[1, :, 0], Bumps.centres[1].expand(3), rtol=0, atol=0.1)
    assert survey.peaks(Bumps(), 2).points.shape == (2, 2, 1)  # the highest


def test_places_reach_beyond_the_draws_and_are_as_dense_as_they():
    draws = drawn(2)
    survey = Survey.of(draws, 2, 1024, seed=0)
    width = draws.amax(0) - draws.amin(0)
    torch.testing.assert_close(survey.low, draws.amin(0) - width / 2)
    inside = ((survey.points > draws.amin(0)) & (survey.points < draws.amax(0))).all(1).double().mean()
    assert 0.4 < inside < 0.625  # a quarter of the even ones, most of the others
    assert survey.proper and survey.points.shape == (1024, 2)
    again = Survey.of(draws, 2, 1024, seed=0)
    assert torch.equal(survey.points, again.points)


def test_without_a_prior_places_lie_in_boxes_about_0():
    before = torch.random.get_rng_state()
    survey = Survey.of(None, 3, 400, seed=0)
    assert not survey.proper and survey.points.abs().max() < 16.0
    near = (survey.points.abs() < 2).all(1).double().mean()
    assert 0.25 < near < 0.3  # a quarter, and few of the others
    assert torch.equal(torch.random.get_rng_state(), before)


def test_many_unknowns_and_no_places():
    assert Survey.of(drawn(20), 20, 32, seed=0).neighbours.shape == (32, 2)
    assert Survey.of(drawn(20), 20, 0, seed=0).points.shape == (0, 20)


def test_even_places_integrate():
    survey = Survey.of(drawn(2), 2, 16, seed=0)
    z = survey.even(4096, seed=3)
    found = (
        torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(1).exp().mean()
        * torch.tensor(survey.log_volume).exp()
    )
    assert abs(found - 1) < 0.01
