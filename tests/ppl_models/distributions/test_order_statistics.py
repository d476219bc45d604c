"""An ordered sample against numerical integration and sorted draws."""

import pyro.distributions as dist
import torch

from ppl_models.distributions.order_statistics import OrderStatistics


def test_density_integrates_to_one_over_ordered_pairs():
    law = OrderStatistics(dist.Normal(torch.tensor(1.0).double(), 2.0), 2, validate_args=False)
    grid = torch.linspace(-15, 17, 801, dtype=torch.float64)
    low, high = torch.meshgrid(grid, grid, indexing="ij")
    density = law.log_prob(torch.stack([low, high], -1)).exp()
    whole = (density * ((low < high).double() + 0.5 * (low == high))).sum() * (grid[1] - grid[0]) ** 2
    assert (whole - 1).abs() < 1e-6


def test_draws_are_sorted_and_have_the_right_extremes():
    """The largest of three standard normals has mean 3 / (2 sqrt(pi))."""
    law = OrderStatistics(dist.Normal(0.0, 1.0), 3).expand([2])
    assert (law.batch_shape, law.event_shape) == ((2,), (3,))
    with torch.random.fork_rng():
        torch.manual_seed(7)
        x = law.sample((20_000,))
    assert x.shape == (20_000, 2, 3)
    assert (x.diff(dim=-1) >= 0).all()
    assert (x[..., 2].mean(0) - 1.5 / torch.pi**0.5).abs().max() < 4 * 0.748 / 20_000**0.5  # its stddev .748
    assert law.support.check(x).all()
    assert law.log_prob(x).shape == (20_000, 2)
