"""Generators without a likelihood: their losses against what is known, and their stories."""

import math

import pyro
import pytest
import torch
from pyro import poutine

from ppl_models import adversarial as adversarial_module
from ppl_models import mmd_generator as mmd_module

GENERATORS = {"mmd": mmd_module.mmd_generator, "adversarial": adversarial_module.adversarial}


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng(), pyro.settings.context(module_local_params=True):
        torch.manual_seed(21)
        yield


def plain_mmd(x, real, y=None, known=None):
    """The unbiased estimate, pair by pair."""
    median = torch.cdist(real, real).square().median()

    def k(a, b, labels):
        if y is not None and labels[0] != labels[1]:
            return 0.0
        square = (a - b).square().sum()
        return sum(math.exp(-square / (2 * 4.0**-i * median)) for i in range(5)) / 5

    def mean(left, right, labels, others, same):
        pairs = [(i, j) for i in range(len(left)) for j in range(len(right)) if not (same and i == j)]
        return sum(k(left[i], right[j], (labels[i], others[j])) for i, j in pairs) / len(pairs)

    a = [0] * len(x) if y is None else y.tolist()
    b = [0] * len(real) if known is None else known.tolist()
    return mean(x, x, a, a, True) + mean(real, real, b, b, True) - 2 * mean(x, real, a, b, False)


@pytest.mark.parametrize("labelled", [False, True])
def test_mmd_is_the_mean_over_pairs(labelled):
    x, real = torch.randn(7, 3, dtype=torch.float64), 1 + torch.randn(9, 3, dtype=torch.float64)
    samples, data, labels = {"x": x}, {"x": real}, (None, None)
    if labelled:
        labels = (torch.arange(7) % 2, torch.arange(9) % 2)
        samples["y"], data["y"] = labels
    assert mmd_module.loss(samples, data).item() == pytest.approx(plain_mmd(x, real, *labels), abs=1e-9)


def test_mmd_of_two_samples_of_one_law_is_zero_on_average():
    values = torch.stack(
        [mmd_module.loss({"x": torch.randn(40, 2)}, {"x": torch.randn(40, 2)}) for _ in range(300)]
    )
    assert abs(values.mean()) < 4 * values.std() / math.sqrt(300)
    assert (values < 0).any()
    assert mmd_module.loss({"x": 0.5 + torch.randn(40, 2)}, {"x": torch.randn(40, 2)}) > values.mean()


def test_mmd_sees_a_label_that_is_swapped():
    """The same rows, but with the other label: p(x) is right and p(x | y) is not."""
    x = torch.cat([torch.randn(60, 2) - 2, torch.randn(60, 2) + 2])
    fresh = torch.cat([torch.randn(60, 2) - 2, torch.randn(60, 2) + 2])
    y = torch.arange(120) // 60
    right = mmd_module.loss({"x": x, "y": y}, {"x": fresh, "y": y})
    swapped = mmd_module.loss({"x": x, "y": 1 - y}, {"x": fresh, "y": y})
    assert abs(right) < 0.02
    assert swapped > 0.2


@pytest.mark.parametrize("make", GENERATORS.values(), ids=GENERATORS)
def test_a_generator_has_gradients_and_follows_its_label(make):
    story = make(classes=3, hidden=8, spread=2.0)
    y = torch.tensor([0, 1, 2, 1])
    torch.manual_seed(5)
    one = poutine.trace(poutine.condition(story, {"y": y})).get_trace(4)
    torch.manual_seed(5)
    other = poutine.trace(poutine.condition(story, {"y": torch.tensor([0, 2, 2, 1])})).get_trace(4)
    same = (one.nodes["x"]["value"] == other.nodes["x"]["value"]).all(-1)
    assert same.tolist() == [True, False, True, True]
    one.nodes["x"]["value"].square().sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in story.network.parameters())  # y alone tells of weights


class LogRatio(torch.nn.Module):
    """The best critic of two normal distributions: log Normal(x; 0, 1) - log Normal(x; shift, 1)."""

    def __init__(self, shift):
        super().__init__()
        self.shift = torch.nn.Parameter(torch.tensor(shift))

    def forward(self, x):
        return (self.shift**2 - 2 * self.shift * x) / 2


def test_the_value_of_the_best_critic_is_two_js_less_log_4():
    """JS(Normal(0, 1), Normal(1.5, 1)) by quadrature."""
    critic = adversarial_module.loss(1, waves=0)
    critic.network = LogRatio(1.5)
    real, made = torch.randn(100_000, 1), 1.5 + torch.randn(100_000, 1)
    with torch.no_grad():
        value = critic({"x": made}, {"x": real})
    line = torch.linspace(-9, 11, 20_001, dtype=torch.float64)
    p, q = (torch.distributions.Normal(m, 1.0).log_prob(line) for m in (0.0, 1.5))
    middle = torch.logaddexp(p, q) - math.log(2)
    js = 0.5 * torch.trapezoid(p.exp() * (p - middle) + q.exp() * (q - middle), line)
    assert abs(value - (2 * js - math.log(4))) < 4 * 0.6 * math.sqrt(2 / 100_000)


def test_the_penalty_and_the_other_gradient_leave_the_rest_of_the_value():
    critic = adversarial_module.loss(1, penalty=3.0, waves=0)
    critic.network = LogRatio(1.5)
    real, made = torch.randn(500, 1), 1.5 + torch.randn(500, 1)
    with torch.no_grad():
        plain = critic({"x": made}, {"x": real})
    paid = critic({"x": made}, {"x": real})
    assert paid.item() == pytest.approx(plain.item() - 3.0 / 2 * 1.5**2, abs=1e-5)


def test_the_story_goes_where_the_critic_is_fooled_and_the_critic_the_other_way():
    """The story's gradient is that of -log D(x'), the critic's that of log(1 - D(x')) and of the data."""
    critic = adversarial_module.loss(1, penalty=0.0, waves=0)
    critic.network = LogRatio(1.5)
    made = torch.tensor([[4.0]], requires_grad=True)
    critic({"x": made}, {"x": torch.zeros(1, 1)}).backward()
    odds = (1.5**2 - 2 * 1.5 * 4.0) / 2
    unsure = 1 / (1 + math.exp(odds))  # 1 - D: near 1, where log(1 - D) is flat
    assert made.grad.item() == pytest.approx(-unsure * -1.5, rel=1e-5)
    at_data, at_made = 1 / (1 + math.exp(1.5**2 / 2)), 1 - unsure
    expected = at_data * 1.5 - at_made * (1.5 - 4.0)
    assert critic.network.shift.grad.item() == pytest.approx(expected, rel=1e-4)


def test_a_critic_of_labels_sees_the_label():
    critic = adversarial_module.loss(2, classes=2)
    x, y = torch.randn(30, 2), torch.arange(30) % 2
    with torch.no_grad():
        one = critic({"x": x, "y": y}, {"x": x, "y": y})
        other = critic({"x": x, "y": 1 - y}, {"x": x, "y": y})
    assert one != other
