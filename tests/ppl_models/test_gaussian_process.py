"""A function learned from noisy values, and asked for at new inputs."""

import torch

from inference import fit
from inference.density.log_density import LogDensity
from inference.story.call import Call
from inference.story.inspection import inspect_story
from inference.story.observations import as_observations
from ppl_models.gaussian_process import GIVEN, exact, gaussian_process

# Fixed before any result was seen: half a sine and a half, 25 inputs, noise .3.
INPUTS = torch.linspace(0, 9, 25, dtype=torch.float64)[:, None]
NOISE = torch.randn(1, 25, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
Y = 2 * torch.sin(INPUTS.T) + 0.3 * NOISE
AT = torch.tensor([[1.6], [4.9], [30.0]], dtype=torch.float64)


def test_new_inputs_are_answered_from_what_was_seen():
    """f's draws against the mixture, over the posterior's draws, of its exact conditional law.

    The means of 400 draws may be off by 4 Monte Carlo errors.
    """
    sizes = (2.0, 1.5, 0.5)
    posterior = fit(gaussian_process, {"y": Y}, (1, INPUTS, *sizes), restarts=2, draws=500, seed=0)
    assert posterior.certificate.trusted, str(posterior.certificate)
    draws = {name: posterior.draws[name].flatten() for name in GIVEN}
    args = (1, INPUTS, *sizes, AT)
    laws = [
        exact({"y": Y}, *args, given={name: v[i] for name, v in draws.items()})["f"]
        for i in range(0, 1000, 5)
    ]
    means, stddevs = (torch.stack([getattr(law, k)[0] for law in laws]) for k in ("mean", "stddev"))
    stddev = (stddevs.square().mean(0) + means.var(0)).sqrt()
    f = posterior.sample("f", given={"y": Y}, args=args, num_samples=400)[:, 0]
    assert f.shape == (400, 3)
    # Given y as a new row, the draws are weighted by it once more, which moves the three parameters within
    # their posterior: by less than half a standard deviation of what they move f.
    error = 4 * stddev / 20 + 0.5 * means.std(0)
    assert ((f.mean(0) - means.mean(0)).abs() < error).all()
    truth = 2 * torch.sin(AT[:2, 0])
    assert ((means.mean(0)[:2] - truth).abs() < 4 * stddev[:2]).all()
    assert stddev[2] > 3 * stddev[:2].max()  # far from all inputs nothing is known


def test_a_hopeless_covariance_is_no_number_and_no_error():
    """Where an optimizer strays, it is told so by a density that is not finite."""
    call = Call.bind(gaussian_process, (1, INPUTS))
    density = LogDensity(*inspect_story(call, as_observations({"y": Y})))
    z = torch.tensor([[400.0, 5.0, -400.0], [-400.0, 400.0, -400.0], [0.1, 0.2, 0.3]], dtype=torch.float64)
    assert torch.isfinite(density.log_prob(z)).tolist() == [False, False, True]
