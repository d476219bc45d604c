"""Schedules: where the rate begins, and where it ends."""

import pytest
import torch

from experiments.training.optimizers import contest, one_cycle, one_cycle_of_rate


def rates(make, steps):
    parameter = torch.zeros(1, requires_grad=True)
    adam, schedule = make(0.1, steps)([parameter])
    found = []
    for _ in range(steps):
        found.append(adam.param_groups[0]["lr"])
        adam.step()
        schedule.step()
    return found


def test_one_cycle_climbs_in_a_tenth_of_the_steps_and_falls_to_nothing():
    found = rates(one_cycle, 100)
    assert max(range(100), key=found.__getitem__) == 9
    assert max(found) == pytest.approx(0.1)
    assert found[-1] < 1e-5


def test_one_cycle_of_the_rate_leaves_momentum_alone():
    parameter = torch.zeros(1, requires_grad=True)
    adam, schedule = one_cycle_of_rate(0.1, 3, 0.5)([parameter])
    for _ in range(10):  # of ten steps at least
        assert adam.param_groups[0]["betas"] == (0.5, 0.999)
        adam.step()
        schedule.step()
    assert adam.param_groups[0]["lr"] < 1e-5


def test_the_rate_of_a_contest_falls_to_a_hundredth():
    found = rates(contest, 100)
    assert found[0] == 0.1
    assert found[-1] == pytest.approx(0.001, rel=0.05)
    adam, _ = contest(0.1, 10)([torch.zeros(1, requires_grad=True)])
    assert adam.param_groups[0]["betas"] == (0.5, 0.99)
