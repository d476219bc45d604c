"""Eight schools, centred: between the schools' spread tau and their means theta stands a funnel.

The story is ``ppl_models.hierarchical_means_centred`` with Rubin's data and posteriordb's priors. Judged are
mu, tau, theta and log tau, which sees the funnel's neck.
"""

from torch import Tensor

from experiments.truth import schools
from experiments.truth.known_posterior import KnownPosterior, Values
from ppl_models.hierarchical_means_centred import hierarchical_means_centred

SITES = ("mu", "tau", "theta")


def posterior() -> KnownPosterior:
    """Return the schools."""
    moments, log_evidence = schools.moments()
    return KnownPosterior(
        hierarchical_means_centred,
        (schools.STDDEV, 0.0, schools.SPREAD, schools.BETWEEN),
        {"y": schools.Y},
        moments={name: moments[name] for name in (*SITES, "log tau")},
        sample=sample,
        log_prob=schools.log_prob,
        log_evidence=log_evidence,
        quantities=quantities,
    )


def sample(num_samples: int, seed: int) -> dict[str, Tensor]:
    """Draw exactly."""
    drawn = schools.sample(num_samples, seed)
    return {name: drawn[name] for name in SITES}


def quantities(draws: Values) -> Values:
    """Add log tau."""
    return {**draws, "log tau": draws["tau"].log()}
