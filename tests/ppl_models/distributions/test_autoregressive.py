"""The autoregression against its loop, and its draws against its own density."""

import pyro
import pytest
import torch
from torch.func import grad, vmap
from torch.fx.experimental.proxy_tensor import make_fx

from ppl_models.distributions.autoregressive import Autoregressive

FIRST = torch.tensor([[2.0, -1.0, 0.5], [0.3, 1.4, -2.2]], dtype=torch.float64)
CONSTANT, PHI, NOISE = (torch.tensor(v, dtype=torch.float64) for v in (0.7, [0.6, -0.3, 0.2], 1.3))


def means(x):
    """Mean of every value given those before it, by a loop."""
    whole = torch.cat([FIRST, x], -1)
    columns = [CONSTANT + sum(PHI[k] * whole[:, 2 + t - k] for k in range(3)) for t in range(x.shape[-1])]
    return torch.stack(columns, -1)


def series(length):
    return 2 * torch.randn(2, length, generator=torch.Generator().manual_seed(4), dtype=torch.float64)


@pytest.mark.parametrize("length", [1, 2, 3, 40])
def test_density_is_the_loop(length):
    x = series(length)
    expected = torch.distributions.Normal(means(x), NOISE).log_prob(x).sum(-1)
    law = Autoregressive(FIRST, CONSTANT, PHI, NOISE, length)
    assert (law.batch_shape, law.event_shape) == ((2,), (length,))
    torch.testing.assert_close(law.log_prob(x), expected, rtol=1e-10, atol=1e-10)


def test_it_can_be_batched_traced_and_differentiated():
    x = series(30)
    many = PHI * torch.linspace(0.2, 1.0, 5, dtype=torch.float64)[:, None]

    def log_p(phi):
        return Autoregressive(FIRST, CONSTANT, phi, NOISE, 30).log_prob(x).sum()

    with pyro.validation_enabled(False):  # value checks cannot be traced
        batched = vmap(make_fx(grad(log_p))(PHI))(many)
    expected = torch.stack([grad(log_p)(phi) for phi in many])
    torch.testing.assert_close(batched, expected, rtol=1e-10, atol=1e-10)


def test_draws_obey_the_recursion():
    """What is left of the draws after their means is the noise that was put in, exactly."""
    for length in (1, 2, 40):
        law = Autoregressive(FIRST, CONSTANT, PHI, NOISE, length)
        with torch.random.fork_rng():
            torch.manual_seed(5)
            x = law.rsample()
            torch.manual_seed(5)
            normal = torch.randn(2, length, dtype=torch.float64)
        torch.testing.assert_close(x - means(x), NOISE * normal, rtol=1e-10, atol=1e-10)


def test_batches_of_coefficients_expand_and_sample():
    phi = PHI.expand(2, 3).clone().requires_grad_()
    law = Autoregressive(FIRST, CONSTANT, phi, NOISE, 6).expand([4, 2])
    with torch.random.fork_rng():
        torch.manual_seed(6)
        x = law.rsample((5,))
    assert x.shape == (5, 4, 2, 6)
    assert law.log_prob(x).shape == (5, 4, 2)
    assert torch.autograd.grad(x.sum(), phi)[0].abs().min() > 0


def test_a_wrong_order_is_refused():
    with pytest.raises(ValueError, match="as many values as phi has coefficients, 3"):
        Autoregressive(FIRST[:, :2], CONSTANT, PHI, NOISE, 5)
