"""The fitted family as a Pyro guide: Pyro's own ELBO of it is the certificate's."""

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.infer import Trace_ELBO

from inference import fit


def test_pyros_elbo_of_positive_and_bounded_sites_is_the_certificates():
    def story(n):
        scale = pyro.sample("scale", dist.LogNormal(0.0, 1.0))
        weights = pyro.sample("weights", dist.Dirichlet(torch.ones(3, dtype=torch.float64)))
        share = pyro.sample("share", dist.Beta(2.0, 2.0))
        with pyro.plate("row", n):
            pyro.sample("x", dist.Normal(weights[0] + share, scale))

    data = {"x": torch.tensor([1.0, 2.0, -3.0, 1.5], dtype=torch.float64)}
    posterior = fit(story, data, seed=0)
    elbo, known = Trace_ELBO(), poutine.condition(story, data)
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        parts = torch.tensor([-elbo.loss(known, posterior.guide, 4) for _ in range(400)])
    assert abs(parts.mean() - posterior.certificate.elbo) < 4 * parts.std() / 20 + 0.01
