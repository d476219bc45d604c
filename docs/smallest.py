"""The smallest whole version of the idea: a story, data from outside, one Gaussian, and a verdict.

A *story* is a plain Pyro program that writes down a joint p(theta) p(x | theta) and observes nothing; data
enter from outside, by site name. Four questions, from top to bottom, in float64 and in nats:

1. How probable is a value of all unknowns? Pyro's handlers condition the story on the data and run it at a
   point of unconstrained space, with the log Jacobian of the map from there (`log_density`).
2. Which Gaussian q is nearest? The one of largest ELBO, E[log p - log q], found by natural-gradient steps on
   its mean and precision (Khan and Rue 2023, "The Bayesian Learning Rule", JMLR 24), where Stein's identity
   makes the mean Hessian a covariance of draws and gradients. The draws are fixed, antithetic and whitened:
   the ELBO is deterministic, and a whole step exact where the target is Gaussian (`ascend`).
3. Is it near enough? Draws of a Student t in its place are weighed by p / q: `pareto_smooth` (Vehtari et al.
   2024, "Pareto smoothed importance sampling", JMLR 25; Zhang and Stephens 2009, Technometrics 51).
4. What comes back? Draws resampled by their weights (`fit`); trusted or not, and why (`verdict`).
"""

import math
from collections.abc import Callable
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, get_default_dtype


def log_density(story: Any, data: dict[str, Tensor], args: Any) -> tuple[int, Callable[[Tensor], Any]]:
    """Return the number of unknowns, and the function z (size,) -> log p(z, data) and the sites' values."""
    known = pyro.poutine.condition(story, data)
    usual = [a.to(get_default_dtype()) if torch.is_tensor(a) and a.is_floating_point() else a for a in args]
    with torch.random.fork_rng(devices=[]):  # names, supports and shapes matter here, not the values drawn
        run: Any = pyro.poutine.util.prune_subsample_sites(pyro.poutine.trace(known).get_trace(*usual))
        run.compute_log_prob()  # raises a ValueError for data outside the support of their site
    if wrong := set(data) - set(run.observation_nodes):
        raise ValueError(f"data: expected names of sites of the story, got {sorted(wrong)}.")
    maps = {n: torch.distributions.biject_to(run.nodes[n]["fn"].support) for n in run.stochastic_nodes}
    shapes = {n: transform.inv(run.nodes[n]["value"]).shape for n, transform in maps.items()}
    sizes = [shape.numel() for shape in shapes.values()]

    def log_prob(z: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        parts = {n: part.reshape(shapes[n]) for n, part in zip(shapes, z.split(sizes), strict=True)}
        values = {n: maps[n](part) for n, part in parts.items()}
        jacobians = [maps[n].log_abs_det_jacobian(part, values[n]).sum() for n, part in parts.items()]
        with pyro.validation_enabled(False):  # they cannot be batched; the first run made these checks
            run = pyro.poutine.trace(pyro.poutine.condition(known, values)).get_trace(*args)
            return run.log_prob_sum() + sum(jacobians), values

    return sum(sizes), log_prob


def ascend(log_prob: Callable[[Tensor], Any], loc: Tensor, e: Tensor) -> tuple[float, Tensor, Tensor]:
    """Climb from a narrow Gaussian to the best ELBO on fixed draws; return it, mean and lower factor."""
    target, size, rate = torch.vmap(torch.func.grad_and_value(log_prob, has_aux=True)), len(loc), 1.0

    def elbo(loc: Tensor, scale: Tensor) -> tuple[float, Tensor]:
        grad, (value, _) = target(loc + e @ scale.T)
        found = float(value.mean() + scale.diagonal().log().sum())  # + size / 2 (1 + log 2 pi), a constant
        return (found if math.isfinite(found) and bool(grad.isfinite().all()) else -math.inf), grad @ scale

    scale = 0.1 * torch.eye(size, dtype=torch.float64)
    best, grad = elbo(loc, scale)
    for _ in range(200 if best > -math.inf else 0):
        values, vectors = torch.linalg.eigh(-(e.T @ grad + grad.T @ e) / (2 * len(e)))  # Stein: -E[Hessian]
        precision = 1 - rate + rate * values.clamp(0.05, 20)  # curvature changes by no more in a step
        step = rate * (grad.mean(0) @ vectors) / precision
        step *= (30 * math.sqrt(size) / step.norm().clamp(min=1e-300)).clamp(max=1)  # trust region
        r = torch.linalg.qr((scale @ (vectors * precision.rsqrt())).T, mode="r").R
        trial = loc + scale @ vectors @ step, (r * r.diagonal().sign()[:, None]).T
        change = float((1 / precision + precision - 2 + step**2 * (1 + precision)).sum()) / 2  # KL, both ways
        value, slope = elbo(*trial)
        better = value >= best - 1e-9 * (1 + abs(best))
        if better:
            (loc, scale), best, grad = trial, value, slope
        if (change < 1e-3 * rate**2) if better else (rate < 1 / 64):
            break
        rate = min(1.0, 1.5 * rate) if better else rate / 2
    return best, loc, scale


def pareto_smooth(log_w: Tensor) -> tuple[Tensor, float]:
    """Smooth the tail of log weights (draws,); return them, normalized, and the tail's shape k-hat."""
    ordered, order = torch.sort(log_w - log_w.max())
    size = math.ceil(min(len(log_w) / 5, 3 * math.sqrt(len(log_w))))
    cutoff, points = float(ordered[-size - 1]), 30 + int(math.sqrt(size))
    x = ordered[-size:].exp() - math.exp(cutoff)
    n = len(x := x[x > 0])
    if cutoff > -1e-9 or n < 5:  # equal weights are bounded; of fewer than five, nothing is known
        return log_w - log_w.logsumexp(0), -math.inf if cutoff > -1e-9 else math.inf
    grid = (torch.arange(points, dtype=torch.float64) + 0.5) / points
    theta = 1 / x[-1] + (1 - grid.rsqrt()) / (3 * x[int(n / 4 + 0.5) - 1])
    shape = torch.log1p(-theta[:, None] * x).mean(1)
    theta = (torch.softmax(n * ((-theta / shape).log() - shape - 1), 0) * theta).sum()
    k = torch.log1p(-theta * x).mean()
    khat, rank = (n * k + 5) / (n + 10), (torch.arange(n, dtype=torch.float64) + 0.5) / n
    ordered[-n:] = math.exp(cutoff) - k / theta * torch.expm1(-khat * torch.log1p(-rank)) / khat
    ordered[-n:] = ordered[-n:].log().clamp(max=0)
    return (ordered - ordered.logsumexp(0))[order.argsort()], float(khat)


def verdict(log_w: Tensor, khat: float, elsewhere: Tensor) -> dict[str, Any]:
    """Judge the weights of the draws; ``elsewhere`` are weights at the ends of all climbs."""
    parts = [log_w, *log_w.chunk(2)]
    means = [float(part.logsumexp(0)) - math.log(len(part)) for part in parts]
    errors = [float((p - m).exp().std()) / math.sqrt(len(p)) for p, m in zip(parts, means, strict=True)]
    ess = float((2 * log_w.logsumexp(0) - (2 * log_w).logsumexp(0)).exp())
    checks = {
        f"k-hat {khat:.2f}: a heavy tail is missed": khat < min(0.7, 1 - 1 / math.log10(len(log_w))),
        f"{ess:.0f} effective of {len(log_w)} draws: too few": ess >= 0.1 * len(log_w),
        "halves of the draws disagree": abs(means[1] - means[2]) <= 3 * math.hypot(errors[1], errors[2]),
        "a climb ended in a mode that is missed": bool(elsewhere.max() < log_w.logsumexp(0) - math.log(10)),
    }
    reasons = [reason for reason, passed in checks.items() if not passed]
    evidence = {"log_evidence": means[0], "log_evidence_stderr": errors[0]}
    return {"trusted": not reasons, "reasons": reasons, "khat": khat, "ess": ess, **evidence}


def fit(story: Any, data: dict[str, Tensor], args: Any = (), draws: int = 1000, seed: int = 0) -> Any:
    """Return draws, site -> (draws, *shape), equally weighted and with hardly a repeat, and the verdict."""
    generator, pool = torch.Generator().manual_seed(seed), 4096
    size, log_prob = log_density(story, data, args)
    half = torch.randn(max(64, 2 * size), size, generator=generator, dtype=torch.float64)
    e = torch.cat([half, -half]) @ torch.linalg.cholesky(half.T @ half / len(half)).inverse().T
    starts = 4 * torch.rand(6, size, generator=generator, dtype=torch.float64) - 2  # overdispersed
    climbs = [ascend(log_prob, start, e) for start in starts]
    _, loc, scale = max(climbs, key=lambda climb: climb[0])
    df = 5 if size <= 15 else 10  # tails heavier than a Gaussian's, so that the weights are light
    normal = torch.randn(pool, size + df, generator=generator, dtype=torch.float64)
    z = loc + normal[:, :size] / normal[:, size:].square().mean(1, keepdim=True).sqrt() @ scale.T
    z = torch.cat([z, torch.stack([climb[1] for climb in climbs])])
    log_p, values = torch.vmap(log_prob)(z)
    log_q = dist.MultivariateStudentT(df, loc, scale).log_prob(z)
    log_w, elsewhere = torch.nan_to_num(log_p - log_q, nan=-math.inf).split([pool, len(climbs)])
    smoothed, khat = pareto_smooth(log_w)
    marks = (torch.arange(draws) + torch.rand(1, generator=generator, dtype=torch.float64)) / draws
    chosen = torch.searchsorted(smoothed.exp().cumsum(0), marks).clamp(max=pool - 1)
    return {name: value[chosen] for name, value in values.items()}, verdict(log_w, khat, elsewhere)


def bioassay(dose: Tensor) -> None:
    """How many of five animals die at each dose (log g/ml)? Racine et al. (1986), Applied Statistics 35."""
    alpha, beta = pyro.sample("alpha", dist.Normal(0.0, 2.0)), pyro.sample("beta", dist.Normal(10.0, 10.0))
    with pyro.plate("group", len(dose)):
        pyro.sample("deaths", dist.Binomial(5, logits=alpha + beta * dose))


if __name__ == "__main__":
    DOSE, DEATHS = torch.tensor([[-0.86, -0.30, -0.05, 0.73], [0.0, 1.0, 3.0, 5.0]], dtype=torch.float64)
    found, certificate = fit(bioassay, {"deaths": DEATHS}, (DOSE,))
    print("\n".join(f"{n:20} {value}" for n, value in certificate.items()))
    print("\n".join(f"{n:20} {v.mean():.3f}, stddev {v.std():.3f}" for n, v in found.items()))
