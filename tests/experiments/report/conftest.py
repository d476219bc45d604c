"""A run in a temporary folder, and a posterior that was never fitted."""

from dataclasses import dataclass

import numpy as np
import pytest

from experiments.report import Run


@dataclass
class Certificate:
    trusted: bool = True
    reasons: tuple = ()

    def __str__(self):
        return "TRUSTED: k-hat < .7 & all is well" if self.trusted else "NOT TRUSTED: k-hat 1.2"


class Fitted:
    """Draws of a Gaussian, four restarts, in the form that the installed ArviZ takes."""

    def __init__(self, trusted=True, shape=(2, 3)):
        self.certificate = Certificate(trusted, () if trusted else ("the tails are <thin>",))
        generator = np.random.default_rng(7)
        self.draws = {
            "mu": generator.normal(size=(4, 100)),
            "theta": generator.normal(5.0, 1000.0, size=(4, 100, *shape)),
        }

    def to_arviz(self):
        import arviz

        if arviz.__version__.startswith("0."):
            return arviz.from_dict(posterior=self.draws)
        return arviz.from_dict({"posterior": self.draws})


@pytest.fixture
def run(tmp_path):
    return Run("coin", "Is the coin fair?", tmp_path, seed=3)


@pytest.fixture
def fitted():
    return Fitted
