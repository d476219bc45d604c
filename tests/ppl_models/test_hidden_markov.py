"""The unseen states, asked for after a fit."""

import torch

from inference import fit
from ppl_models.hidden_markov import EXAMPLE, hidden_markov


def test_the_states_of_old_and_new_sequences_are_found():
    """The example's levels lie ten standard deviations apart: the sign of x - 2 is its state, for certain."""
    args, data = EXAMPLE
    posterior = fit(hidden_markov, data, args, restarts=2, draws=300, seed=0)
    assert posterior.certificate.trusted, str(posterior.certificate)
    old = posterior.sample("z", num_samples=20)
    assert torch.equal(old, (data["x"] > 2).long().expand(20, -1, -1))
    new = torch.tensor([[6.1, -2.2, -1.9, 5.7]], dtype=torch.float64)
    states = posterior.sample("z", given={"x": new}, args=(1, 4, *args[2:]), num_samples=20)
    assert torch.equal(states, torch.tensor([1, 0, 0, 1]).expand(20, 1, 4))
