"""The options of SVI: one object or single keywords, the same fit, and never both."""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import Trace_ELBO
from pyro.infer.autoguide import AutoNormal

from inference import SVI, fit
from inference.svi.request import Request

ROWS = torch.tensor([0.3, -1.0, 2.0, 0.7, 1.1, -0.2])


def story(n):
    mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
    with pyro.plate("row", n, dim=-1):
        pyro.sample("x", dist.Normal(mu, 1.5))


@pytest.mark.parametrize(
    "options",
    [
        {"batch_size": 3},
        {"loss": Trace_ELBO(num_particles=2)},
        {"optim": torch.optim.SGD, "warm_up": 2},
        {"held_out": 0.4},
    ],
    ids=lambda options: "+".join(options),
)
def test_one_object_and_single_keywords_are_the_same_fit(options):
    same = {"guide": AutoNormal, "steps": 12, "restarts": 2, "draws": 20, "seed": 5}
    one = fit(story, {"x": ROWS}, svi=SVI(**options), **same)
    other = fit(story, {"x": ROWS}, **options, **same)
    assert torch.equal(one.draws["mu"], other.draws["mu"])
    assert one.history == other.history
    assert one.certificate.reasons == other.certificate.reasons


def test_what_is_given_twice_or_is_no_option_is_refused():
    with pytest.raises(ValueError, match=r"batch_size: given beside svi=SVI\(...\), expected one of the two"):
        fit(story, {"x": ROWS}, svi=SVI(loss=Trace_ELBO()), batch_size=2)
    with pytest.raises(ValueError, match="got an instance of builtins.dict. Pyro's own SVI is made for you"):
        fit(story, {"x": ROWS}, svi={"batch_size": 2})
    with pytest.raises(ValueError, match="warm_up: expected a number of steps, 0 for none, got -1"):
        SVI(warm_up=-1)
    with pytest.raises(ValueError, match="got the class inference.svi.request.SVI"):
        fit(story, {"x": ROWS}, svi=SVI)
    for wrong in (0, True, 2.0, "3"):
        with pytest.raises(ValueError, match=f"batch_size: expected a positive integer, got {wrong!r}"):
            SVI(batch_size=wrong)
    with pytest.raises(TypeError, match="positional"):
        SVI(64)
    assert SVI(batch_size=np.int64(5)).asked


def test_any_option_asks_for_svi_and_none_for_the_ladder():
    assert not SVI().asked
    for options in ({"loss": Trace_ELBO()}, {"optim": torch.optim.Adam}, {"batch_size": 1}, {"warm_up": 1}):
        assert SVI(**options).asked
    assert SVI(held_out={"x": ROWS}).asked  # a mapping of tensors has no truth value to stumble over
    assert not Request("auto").by_samples and Request("auto", SVI(loss=lambda samples, data: 0.0)).by_samples
    assert fit(story, {"x": ROWS}, svi=SVI(), draws=40).certificate.guide == "full_rank"
