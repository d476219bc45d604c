"""Eight schools, non-centred: the easy way to tell the same story.

The story is ``ppl_models.hierarchical_means`` with Rubin's data and posteriordb's priors. Judged are mu, tau,
eta, theta and log tau.
"""

from torch import Tensor

from experiments.truth import schools
from experiments.truth.known_posterior import KnownPosterior, Values
from ppl_models.hierarchical_means import hierarchical_means


def posterior() -> KnownPosterior:
    """Return the schools."""
    moments, log_evidence = schools.moments()
    return KnownPosterior(
        hierarchical_means,
        (schools.STDDEV, 0.0, schools.SPREAD, schools.BETWEEN),
        {"y": schools.Y},
        moments=moments,
        sample=sample,
        log_prob=log_prob,
        log_evidence=log_evidence,
        quantities=lambda draws: {**draws, "log tau": draws["tau"].log()},
        deterministic=with_theta,
        never_refused=True,
    )


def sample(num_samples: int, seed: int) -> dict[str, Tensor]:
    """Draw exactly."""
    drawn = schools.sample(num_samples, seed)
    return {name: drawn[name] for name in ("mu", "tau", "eta")}


def with_theta(draws: Values) -> Values:
    """Add the schools' means."""
    return {**draws, "theta": draws["mu"][..., None] + draws["tau"][..., None] * draws["eta"]}


def log_prob(values: Values) -> Tensor:
    """Theta's density times that of the change to eta, whose Jacobian is tau for every school."""
    return schools.log_prob(with_theta(values)) + len(schools.Y) * values["tau"].log()
