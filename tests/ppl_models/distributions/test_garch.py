"""GARCH against its loop, and its draws against its own recursion."""

import pyro
import torch
from torch.func import grad, vmap
from torch.fx.experimental.proxy_tensor import make_fx

from ppl_models.distributions.garch import Garch

THETA = torch.tensor(
    [0.4, 0.3, 0.25, 0.6, 2.5], dtype=torch.float64
)  # location, constant, shock, memory, start


def loop(theta, x):
    location, constant, shock, memory, variance = theta
    total = torch.zeros((), dtype=torch.float64)
    for t, value in enumerate(x):
        if t > 0:
            variance = constant + shock * (x[t - 1] - location) ** 2 + memory * variance
        total = total + torch.distributions.Normal(location, variance.sqrt()).log_prob(value)
    return total


def series(length, seed=1):
    return 2 * torch.randn(length, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_density_and_gradient_are_the_loop():
    for length in (1, 2, 31, 200):
        x = series(length)
        torch.testing.assert_close(Garch(*THETA, length).log_prob(x), loop(THETA, x), rtol=1e-10, atol=1e-10)
    slope = grad(lambda theta: Garch(*theta, 200).log_prob(x))(THETA)
    torch.testing.assert_close(slope, grad(lambda theta: loop(theta, x))(THETA), rtol=1e-9, atol=1e-9)


def test_it_can_be_batched_traced_and_expanded():
    scale = torch.rand(6, 1, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    many, x = THETA * (0.5 + scale / 2), torch.stack([series(50, seed) for seed in range(3)])
    with pyro.validation_enabled(False):  # value checks cannot be traced
        traced = make_fx(lambda theta: Garch(*theta, 50).expand([3]).log_prob(x))(THETA)
    assert len(list(traced.graph.nodes)) < 120
    expected = torch.stack([torch.stack([loop(theta, row) for row in x]) for theta in many])
    torch.testing.assert_close(vmap(traced)(many), expected, rtol=1e-10, atol=1e-10)


def test_draws_obey_the_recursion_and_their_shocks_are_standard():
    """Standardized by the variances that the drawn series itself implies, the draws are white."""
    law = Garch(*THETA, 300).expand([2])
    with torch.random.fork_rng():
        torch.manual_seed(3)
        x = law.sample((50,))
    assert x.shape == (50, 2, 300)
    shocks = ((x - THETA[0]) / law.variances(x).sqrt()).flatten()
    n = shocks.numel()
    assert shocks.mean().abs() < 4 / n**0.5
    assert (shocks.var() - 1).abs() < 4 * (2 / n) ** 0.5
    assert (shocks**4).mean().sub(3).abs() < 4 * (96 / n) ** 0.5  # Var(z^4) = 105 - 9
    later, earlier = law.variances(x)[..., 1:], x[..., :-1] - THETA[0]
    correlation = torch.corrcoef(torch.stack([later.flatten(), (earlier**2).flatten()]))[0, 1]
    assert correlation > 0.3  # the variance does follow the shock
