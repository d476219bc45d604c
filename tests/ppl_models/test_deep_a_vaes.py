"""The autoencoders: linear, plain, conditional, semi-supervised; against closed forms where there are any."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import Trace_ELBO, TraceEnum_ELBO

from ppl_models import conditional_vae, linear_vae, semi_supervised_vae, vae


@pytest.fixture(autouse=True)
def aside():
    """Plain Pyro keeps parameters per process; here they stay in the test."""
    with torch.random.fork_rng(), pyro.get_param_store().scope():
        torch.manual_seed(0)
        yield


def rows(n, features, factors, seed):
    """Rows that a few factors explain but for noise of standard deviation .6; unlike scales, far from 0."""
    g = torch.Generator().manual_seed(seed)
    mix = torch.randn(factors, features, generator=g) * torch.linspace(2.0, 1.2, factors)[:, None]
    noise = 0.6 * torch.randn(n, features, generator=g)
    return torch.randn(n, factors, generator=g) @ mix + noise + 2.5


def principal(x, latents):
    """Tipping and Bishop (1999): weight, mean and variance at the maximum; scikit-learn's score of it."""
    from sklearn.decomposition import PCA

    pca = PCA(latents).fit(x.double().numpy())
    variance = pca.noise_variance_
    spread = torch.as_tensor(pca.explained_variance_ - variance).clamp(min=0).sqrt()
    weight = torch.as_tensor(pca.components_).T * spread
    return weight, torch.as_tensor(pca.mean_), variance, pca.score(x.double().numpy())


def log_joint_and_guide(story, own_guide, n, data, values):
    """Per row, in nats: log p(x, latents) and log q(latents | x), at the given latents."""
    with torch.no_grad():
        p = poutine.trace(poutine.condition(story, {**data, **values})).get_trace(n)
        q = poutine.trace(poutine.condition(own_guide, values)).get_trace(n, data)
        p.compute_log_prob(), q.compute_log_prob()
    log_p = sum(p.nodes[name]["log_prob"] for name in {**data, **values})
    return log_p, sum(q.nodes[name]["log_prob"] for name in values)


def test_at_the_closed_form_every_draw_of_the_linear_vae_says_log_p():
    """With the exact posterior as its guide, log p(x, z) - log q(z | x) is log p(x), whatever z."""
    x = rows(50, 5, 2, seed=3).double()
    weight, mean, variance, score = principal(x, 2)
    story = linear_vae.linear_vae(5, 2).double()
    own_guide = linear_vae.guide(story).double()
    precision = torch.eye(2, dtype=torch.float64) + weight.T @ weight / variance
    encoder = torch.linalg.solve(precision, weight.T) / variance
    with torch.no_grad():
        story.decoder.weight.copy_(weight)
        story.decoder.bias.copy_(mean)
        own_guide.encoder.weight.copy_(encoder)
        own_guide.encoder.bias.copy_(-encoder @ mean)
    story.stddev = torch.tensor(math.sqrt(variance), dtype=torch.float64)
    own_guide.scale_tril = torch.linalg.cholesky(torch.linalg.inv(precision))
    for scale in (0.3, 2.0):
        z = scale * torch.randn(50, 2, dtype=torch.float64)
        log_p, log_q = log_joint_and_guide(story, own_guide, 50, {"x": x}, {"z": z})
        assert abs((log_p - log_q).mean().item() - score) < 1e-9


@pytest.mark.parametrize("story_class", [vae.vae, conditional_vae.conditional_vae])
def test_black_and_white_is_one_grey_level(story_class):
    story = story_class(features=6, levels=1)
    z, x = torch.randn(4, story.latents), torch.randint(2, (4, 6)).float()
    inputs = (z,) if story_class is vae.vae else (z, torch.tensor([2, 7, 4, 3]))
    law = story.noise(*inputs)
    mean = law.mean  # of a count of at most one: its probability
    torch.testing.assert_close(law.log_prob(x), dist.Bernoulli(mean).to_event(1).log_prob(x))


def test_points_have_noise_of_their_own_stddev():
    story = vae.vae(features=3)
    story.stddev = torch.tensor([0.2, 0.5, 3.0])
    z = torch.randn(4, 2)
    law = story.noise(z)
    torch.testing.assert_close(law.stddev, torch.tensor([0.2, 0.5, 3.0]).expand(4, 3))
    torch.testing.assert_close(law.mean, story.decoder(z))


def test_the_conditional_guide_takes_every_class_at_once():
    """A label that is summed out holds all of its values, in a dimension to the left."""
    story = conditional_vae.conditional_vae(classes=3)
    own_guide = conditional_vae.guide(story)
    x, y = torch.randint(17, (5, 64)).float(), torch.arange(3)[:, None]
    every = poutine.trace(own_guide).get_trace(5, {"x": x, "y": y}).nodes["z"]["fn"]
    assert every.batch_shape == (3, 5)
    for label in range(3):
        one = poutine.trace(own_guide).get_trace(5, {"x": x, "y": torch.full((5,), label)})
        torch.testing.assert_close(one.nodes["z"]["fn"].mean, every.mean[label])


def test_the_conditional_guide_asks_for_the_class():
    own_guide = conditional_vae.guide(conditional_vae.conditional_vae())
    with pytest.raises(ValueError, match="data: expected x and y, got no y"):
        own_guide(2, {"x": torch.ones(2, 64)})


def half_labelled(alpha):
    """A small M2, six rows, the first three labelled; y of the others is a stand-in."""
    story = semi_supervised_vae.semi_supervised_vae(6, 2, 8, 3, levels=4, alpha=alpha)
    data = {"x": torch.randint(5, (6, 6)).float(), "y": torch.tensor([2, 0, 1, 0, 0, 0])}
    seen = {"y": torch.tensor([True] * 3 + [False] * 3)}
    return story, semi_supervised_vae.guide(story), data, seen


def enumerated_loss(story, own_guide, data, seen):
    model = poutine.condition(story, {"x": data["x"]})
    elbo = TraceEnum_ELBO(max_plate_nesting=1)
    return elbo.differentiable_loss(model, lambda n: own_guide(n, data, seen), len(data["x"]))


def test_the_m2_loss_is_that_of_the_paper():
    """Kingma et al. (2014), equations 6, 7 and 9, written out over rows and classes, at the same z."""
    story, own_guide, data, seen = half_labelled(alpha=2.5)
    torch.manual_seed(5)
    loss = enumerated_loss(story, own_guide, data, seen)
    x, y = data["x"], data["y"]
    every = torch.arange(3)[:, None].expand(3, 6)
    torch.manual_seed(5)
    q_z = poutine.trace(own_guide).get_trace(6, {"x": x, "y": every}).nodes["z"]
    z, log_q = q_z["value"], own_guide.logits(x)
    bound = story.weights.log()[every] + story.noise(z, every).log_prob(x)
    bound = bound + dist.Normal(0.0, 1.0).log_prob(z).sum(-1) - q_z["fn"].log_prob(z)  # (3, 6)
    labelled = bound[y[:3], torch.arange(3)] + 2.5 * log_q[torch.arange(3), y[:3]]
    free = (log_q[3:].T.exp() * (bound[:, 3:] - log_q[3:].T)).sum(0)
    torch.testing.assert_close(loss, -(labelled.sum() + free.sum()))


def test_without_the_term_the_classifier_learns_nothing_from_labels():
    """The naive loss: of labelled rows q(y | x) gets no gradient, with alpha it gets that of the log loss."""
    gradients = {}
    for alpha in (0.0, 2.5):
        torch.manual_seed(1)
        story, own_guide, data, _ = half_labelled(alpha)
        known = {name: value[:3] for name, value in data.items()}
        model = poutine.condition(story, known)
        loss = Trace_ELBO().differentiable_loss(model, lambda n, own=own_guide, rows=known: own(n, rows), 3)
        last = own_guide.classifier[-1].bias
        (gradients[alpha],) = torch.autograd.grad(loss, last, allow_unused=True, retain_graph=True)
        told = own_guide.logits(known["x"])[torch.arange(3), known["y"]].sum()
        (of_log_loss,) = torch.autograd.grad(-told, last)
    assert gradients[0.0] is None or not gradients[0.0].any()
    torch.testing.assert_close(gradients[2.5], 2.5 * of_log_loss)


def test_m2_without_labels_draws_them():
    """In plain Pyro too, where nothing is enumerated: y is one class per row."""
    _, own_guide, data, _ = half_labelled(alpha=2.5)
    run = poutine.trace(own_guide).get_trace(6, {"x": data["x"]})
    assert run.nodes["y"]["value"].shape == (6,) and run.nodes["z"]["value"].shape == (6, 2)
    assert "label" not in run.nodes
