"""Wishart draws have the right moments, and no warning comes with them (warnings are errors here)."""

import torch

from ppl_models.distributions.wishart import Wishart


def test_mean_and_variance_are_the_closed_form():
    scale = torch.tensor([[2.0, 0.6], [0.6, 0.5]], dtype=torch.float64)
    df = torch.tensor(7.0, dtype=torch.float64)
    wishart = Wishart(df, covariance_matrix=scale)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        draws = wishart.sample((40_000,))
    error = wishart.variance.sqrt() / 200
    assert ((draws.mean(0) - df * scale).abs() <= 4 * error).all()
    assert torch.allclose(wishart.mean, df * scale)
    # The variance of a sample variance: 2 / n relative for a normal, several times that with heavy tails.
    assert ((draws.var(0) / wishart.variance - 1).abs() <= 4 * (6 / 40_000) ** 0.5).all()


def test_batches_expand_and_are_independent():
    df = torch.tensor([4.0, 30.0])
    wishart = Wishart(df, torch.eye(3)).expand([5, 2])
    with torch.random.fork_rng():
        torch.manual_seed(4)
        draws = wishart.sample((7,))
    assert draws.shape == (7, 5, 2, 3, 3)
    assert torch.linalg.eigvalsh(draws).min() > 0
    assert (
        draws[:, :, 1].diagonal(dim1=-2, dim2=-1).mean()
        > 3 * draws[:, :, 0].diagonal(dim1=-2, dim2=-1).mean()
    )
