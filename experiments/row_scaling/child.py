"""One fit in a process of its own, ``python -m experiments.row_scaling.child``: seconds and peak memory."""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

FEATURES, SEED = 5, 20_240_504


def linear(covariates: Tensor) -> Tensor:
    """A linear regression with unknown noise."""
    weights = pyro.sample("weights", dist.Normal(0.0, 3.0).expand([covariates.shape[1]]).to_event(1))
    sigma = pyro.sample("sigma", dist.HalfNormal(2.0))
    with pyro.plate("row", len(covariates), dim=-1):
        return pyro.sample("y", dist.Normal(covariates @ weights, sigma))


def logistic(covariates: Tensor) -> Tensor:
    """A logistic regression."""
    weights = pyro.sample("weights", dist.Normal(0.0, 3.0).expand([covariates.shape[1]]).to_event(1))
    with pyro.plate("row", len(covariates), dim=-1):
        return pyro.sample("y", dist.Bernoulli(logits=covariates @ weights))


STORIES = {"linear": linear, "logistic": logistic}


def rows_of(kind: str, rows: int) -> tuple[Tensor, Tensor]:
    """Covariates (rows, 5), the first a column of ones, and responses (rows,)."""
    generator = torch.Generator().manual_seed(SEED)
    x = torch.randn(rows, FEATURES, generator=generator, dtype=torch.float64)
    x[:, 0] = 1.0
    middle = x @ torch.tensor([0.3, -0.7, 0.5, 0.2, -0.4], dtype=torch.float64)
    if kind == "linear":
        return x, middle + 1.5 * torch.randn(rows, generator=generator, dtype=torch.float64)
    uniform = torch.rand(rows, generator=generator, dtype=torch.float64)
    return x, (uniform < middle.sigmoid()).double()


def peak() -> float:
    """Largest memory that this process has held, in MB.

    On Linux ``getrusage`` starts from what the parent held, so that the kernel's own count is asked first.
    """
    try:
        status = Path("/proc/self/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e6
    except (OSError, IndexError):
        pass
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest / (1e6 if sys.platform == "darwin" else 1e6 / 1024)  # bytes there, kiB on Linux


def held() -> float:
    """Memory that this process holds now, in MB; its peak where the system does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return peak()
    return pages * resource.getpagesize() / 1e6


def main(kind: str, rows: int, seed: int) -> dict[str, float | bool]:
    """Fit twice: a small one, which loads everything, and the one that is measured."""
    from inference import fit

    small, response = rows_of(kind, 500)
    fit(STORIES[kind], {"y": response}, (small,), seed=seed, draws=100)
    x, y = rows_of(kind, rows)
    before, began = held(), time.process_time()
    posterior = fit(STORIES[kind], {"y": y}, (x,), seed=seed)
    seconds = time.process_time() - began
    certificate = posterior.certificate
    return {
        "rows": rows, "seconds": seconds, "peak": peak(), "before": before,
        "trusted": certificate.trusted, "calls": certificate.gradient_calls,
    }  # fmt: skip


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))
