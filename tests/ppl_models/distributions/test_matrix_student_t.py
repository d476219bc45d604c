"""The matrix Student t against one row's multivariate t, and against its definition as an average."""

import math

import torch
from pyro import distributions as dist

from ppl_models.distributions.matrix_student_t import MatrixStudentT
from ppl_models.distributions.wishart import Wishart

DF = torch.tensor(6.5, dtype=torch.float64)
RATE = torch.tensor([[2.0, 0.3], [0.3, 1.2]], dtype=torch.float64)
MEAN = torch.tensor([[0.5, -0.2], [1.5, 0.7], [-1.0, 2.0]], dtype=torch.float64)
STRENGTH = torch.tensor([3.0, 0.6, 1.7], dtype=torch.float64)
VALUE = torch.tensor([[0.9, 0.1], [0.2, 0.4], [-0.6, 1.5]], dtype=torch.float64)


def test_a_single_row_is_multivariate_t():
    ours = MatrixStudentT(DF, MEAN[:1], STRENGTH[:1], RATE).log_prob(VALUE[:1])
    free = DF - 1
    factor = torch.linalg.cholesky(RATE / (free * STRENGTH[0]))
    torch.testing.assert_close(ours, dist.MultivariateStudentT(free, MEAN[0], factor).log_prob(VALUE[0]))


def test_density_is_the_normals_averaged_over_the_precision():
    """Within 4 Monte Carlo errors at 40,000 precisions."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        precision = Wishart(DF, precision_matrix=RATE).sample((40_000,))
    sharp = STRENGTH[:, None, None] * precision[:, None]
    terms = dist.MultivariateNormal(MEAN, precision_matrix=sharp).log_prob(VALUE).sum(-1).exp()
    error = float(terms.std()) / math.sqrt(len(terms))
    ours = MatrixStudentT(DF, MEAN, STRENGTH, RATE).log_prob(VALUE).exp()
    assert abs(float(ours - terms.mean())) < 4 * error


def test_draws_have_its_mean_and_covariance():
    """Covariance of row c is rate / ((df - features - 1) strength_c); within 4 standard errors."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        law = MatrixStudentT(DF, MEAN, STRENGTH, RATE)
        draws = law.sample((40_000,))
    assert draws.shape == (40_000, 3, 2)
    off = draws - law.mean
    assert (off.mean(0).abs() < 4 * off.std(0) / math.sqrt(len(off))).all()
    outer = off[..., :, None] * off[..., None, :]
    expected = RATE / (DF - 3) / STRENGTH[:, None, None]
    assert ((outer.mean(0) - expected).abs() < 4 * outer.std(0) / math.sqrt(len(outer))).all()
