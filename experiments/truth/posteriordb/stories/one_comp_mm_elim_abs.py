"""A drug's concentration: first-order absorption, elimination that saturates.

Story
    A dose is absorbed into one compartment and eliminated by enzymes that are busy when there is much of it.
    Seen are concentrations over ten days, each off by a factor of unknown spread.

Joint
    p(k_a) p(K_m) p(V_m) p(sigma) prod_t p(C_hat_t | C_t, sigma), with

    - k_a, K_m, V_m, sigma ~ HalfCauchy(1)
    - C' = exp(-k_a t) dose k_a / volume - (V_m / volume) C / (K_m + C), C(0) = 0
    - log C_hat_t ~ Normal(log C_t, sigma)

Shapes
    k_a () per day, K_m () mg/L, V_m () per day, sigma (); times (n,) in days, evenly spaced, dose () in mg,
    volume () in litres; C_hat (n,) in mg/L.

Priors
    As in the Stan program: ``cauchy(0, 1)`` on ``real<lower=0>``. A constant V_m / K_m explains the data
    almost as well, to .3 nats, however large K_m is, so that the posterior has the tail K_m^-3: K_m and V_m
    have a mean, but no variance. Their standard deviations differ between the reference's chains, from 4.2 to
    11.1 for K_m; what can be compared are quantiles and logarithms.

Answers
    p(k_a, K_m, V_m, sigma | C_hat): learn
    p(C_hat): generate, weigh

Source
    Holford (1990); Stan Development Team, stat_comp_benchmarks, ``pkpd``; posteriordb's
    ``one_comp_mm_elim_abs``. Here the log likelihood is closer than 1e-3 nats to that of the exact solution.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from experiments.truth.posteriordb.elimination import concentrations

STAN = ("one_comp_mm_elim_abs",)


def one_comp_mm_elim_abs(times: Tensor, dose: Tensor, volume: Tensor) -> Tensor:
    """Tell the story of one concentration per entry of ``times``; returns them, shape (n,)."""
    k_a = pyro.sample("k_a", dist.HalfCauchy(1.0))
    K_m = pyro.sample("K_m", dist.HalfCauchy(1.0))
    V_m = pyro.sample("V_m", dist.HalfCauchy(1.0))
    sigma = pyro.sample("sigma", dist.HalfCauchy(1.0))
    c = concentrations(k_a, K_m, V_m / volume, dose / volume, times)
    with pyro.plate("time", len(times), dim=-1):
        return pyro.sample("C_hat", dist.LogNormal(c.log(), sigma))


def posed(model: str, data: Mapping[str, Any]) -> tuple[tuple[Tensor, Tensor, Tensor], dict[str, Tensor]]:
    """Return the story's arguments and what was seen, from the data set as Stan gets it.

    Raises
    ------
    ValueError
        If the times are not evenly spaced from 0 on.
    """
    times, dose, volume, seen = (
        torch.tensor(data[name], dtype=torch.float64) for name in ("times", "D", "V", "C_hat")
    )
    even = times[0] * torch.arange(1, len(times) + 1)
    if data["t0"] != 0 or not torch.allclose(times, even):
        raise ValueError(
            f"times: expected evenly spaced ones from t0 = 0 on, got {data['t0']}, {data['times']}"
        )
    return (times, dose, volume), {"C_hat": seen}
