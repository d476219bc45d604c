"""Doubling against plain loops, at lengths that are and are not powers of two."""

import pytest
import torch

from ppl_models.distributions.doubling import linear_recursion, prefixes, total


def multiply(earlier, later):
    return (later[0] @ earlier[0],)


def multiply_outside(earlier, later):
    return (torch.einsum("bijt,bjkt->bikt", later[0], earlier[0]),)


@pytest.mark.parametrize("length", [1, 2, 3, 7, 8, 9, 100])
def test_products_do_not_commute_and_are_the_loop(length):
    generator = torch.Generator().manual_seed(length)
    matrices = torch.randn(length, 4, 3, 3, generator=generator, dtype=torch.float64)
    product, expected = torch.eye(3, dtype=torch.float64).expand(4, 3, 3), []
    for matrix in matrices:
        product = matrix @ product
        expected.append(product)
    size = torch.stack(expected).abs().amax((-2, -1), keepdim=True)
    gap = (prefixes(multiply, (matrices,))[0] - torch.stack(expected)) / size
    assert gap.abs().max() < 1e-10
    (whole,) = total(multiply_outside, (matrices.movedim(0, -1),))
    gap = (whole - expected[-1]) / size[-1]
    assert gap.abs().max() < 1e-10


@pytest.mark.parametrize("length", [1, 5, 16, 333])
def test_a_linear_recursion_is_the_loop(length):
    generator = torch.Generator().manual_seed(length)
    decay = 2 * torch.rand(3, length, generator=generator, dtype=torch.float64) - 1
    shock = torch.randn(2, 3, length, generator=generator, dtype=torch.float64)
    state, expected = torch.zeros(2, 3, dtype=torch.float64), []
    for t in range(length):
        state = decay[:, t] * state + shock[..., t]
        expected.append(state)
    torch.testing.assert_close(
        linear_recursion(decay, shock), torch.stack(expected, -1), rtol=1e-10, atol=1e-10
    )


def test_a_constant_decay_broadcasts():
    shock = torch.tensor([[2.0, 3.0, 4.0], [5.0, 6.0, 7.0]])
    expected = torch.tensor([[2.0, 4.0, 6.0], [5.0, 8.5, 11.25]])
    torch.testing.assert_close(linear_recursion(torch.tensor(0.5), shock), expected)
