"""What a story does to its arguments stays inside: the caller's arrays, and what every run sees, stay."""

import dataclasses
import functools
import types

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch

from inference import SVI, fit, fit_many, load, prior, reference
from inference.story.call import Call
from inference.story.inspection import inspect_rows, inspect_story
from inference.story.observations import as_observations
from inference.story.plan import plan
from inference.svi.minibatch import Rows

N = 12
Y = 0.5 * torch.arange(float(N), dtype=torch.float64) + torch.sin(torch.arange(float(N), dtype=torch.float64))
QUICK = {"restarts": 2, "draws": 200, "seed": 0}
CASTS = [
    lambda x: x.double(), lambda x: x.float(), lambda x: x.long(),
    lambda x: x.double().numpy(), lambda x: x.float().numpy(), lambda x: x.int().numpy(),
]  # fmt: skip


def line(x):
    slope = pyro.sample("slope", dist.Normal(0.0, 1.0))
    with pyro.plate("row", len(x), dim=-1):
        pyro.sample("y", dist.Normal(slope * x, 1.0))
        pyro.sample("late", dist.Bernoulli(logits=slope * x - 3.0))


def writing(x):
    x += 1
    line(x)


def plain(x):
    line(x + 1)


def same(value, kept):
    return bool((torch.as_tensor(value) == torch.as_tensor(kept)).all())


DATA = {"y": Y, "late": (Y > 3).double()}


@pytest.mark.parametrize("cast", CASTS)
def test_a_story_that_writes_into_its_argument_sees_the_same_in_every_run(cast):
    x = cast(torch.arange(N))
    kept = x.copy() if isinstance(x, np.ndarray) else x.clone()
    data = {"y": Y.clone(), "late": DATA["late"].numpy().copy()}
    found, expected = fit(writing, data, (x,), **QUICK), fit(plain, data, (x,), **QUICK)
    assert same(x, kept) and same(data["y"], Y) and same(data["late"], DATA["late"])
    torch.testing.assert_close(found.draws["slope"], expected.draws["slope"])
    assert abs(found.certificate.log_evidence - expected.certificate.log_evidence) < 1e-9


@pytest.fixture(scope="module")
def pair():
    x = torch.arange(float(N), dtype=torch.float64)
    return x, fit(writing, DATA, (x,), **QUICK), fit(plain, DATA, (x,), **QUICK)


def asked(posterior, x, given):
    yield posterior.sample("y", num_samples=50, seed=1)
    yield posterior.sample("y", num_samples=50, args=(x,), seed=1)
    yield posterior.sample("y", given=given, num_samples=50, args=(x,), seed=1)
    yield posterior.log_prob(given, args=(x,))[0]
    yield posterior.probabilities("late", given={"y": given["y"]}, args=(x,))
    groups = posterior.to_arviz()
    for name in ("posterior", "posterior_predictive", "log_likelihood"):
        for values in groups[name].data_vars.values():
            yield torch.as_tensor(np.array(values))


def test_every_question(pair):
    x, found, expected = pair
    kept, given = x.clone(), {"y": Y.clone()}
    for one, other in zip(asked(found, x, given), asked(expected, x, given), strict=True):
        torch.testing.assert_close(one, other)
        assert same(x, kept) and same(given["y"], Y)


def verbs(story, x, folder):
    yield reference(story, DATA, (x,), draws=50, chains=8, budget=1000).draws["slope"]
    yield prior(story, (x,), draws=50).sample("y", num_samples=50, args=(x,), seed=1)
    many = fit_many(story, [DATA, {**DATA, "y": Y + 1}], each=[(x,), (x,)], draws=100)
    yield many.draws["slope"]
    yield many[1].sample("y", num_samples=50, seed=1)
    fitted = fit(story, DATA, (x,), **QUICK)
    fitted.save(folder / story.__name__)
    for args in (None, (x,)):
        yield load(folder / story.__name__, story, args).sample("y", num_samples=50, seed=1)


def test_every_other_verb(tmp_path):
    x = torch.arange(float(N), dtype=torch.float64)
    kept = x.clone()
    for one, other in zip(verbs(writing, x, tmp_path), verbs(plain, x, tmp_path), strict=True):
        torch.testing.assert_close(one, other)
        assert same(x, kept)


@pytest.mark.parametrize("batch", [None, 4])
def test_svi_and_an_autoguide_that_runs_the_story(batch):
    x = torch.arange(float(N), dtype=torch.float64)
    kept = x.clone()
    svi = SVI(batch_size=batch)
    guide = pyro.infer.autoguide.AutoNormal
    one, other = (fit(s, DATA, (x,), guide=guide, svi=svi, steps=30, **QUICK) for s in (writing, plain))
    torch.testing.assert_close(one.draws["slope"], other.draws["slope"])
    torch.testing.assert_close(one.sample("y", num_samples=50), other.sample("y", num_samples=50))
    assert same(x, kept)


def nested(first, *, covariates):
    covariates["x"][0] += 1
    covariates["names"].append("again")
    line(covariates["x"][0] + 0 * len(first))


def by_numpy(x):
    view = x.numpy()
    view += 1
    line(x)


def by_data(x):
    x.data.add_(1)
    line(x)


def by_slices(x):
    x[: N // 2] += 1
    line(x)


@pytest.mark.parametrize("story", [by_numpy, by_data, by_slices])
def test_ways_to_write(story):
    x = np.arange(float(N))
    structure, _ = inspect_story(Call.bind(story, (x,)))
    assert structure.call.writes and same(x, np.arange(float(N)))
    first, second = (fit(story, DATA, (x,), **QUICK) for _ in range(2))
    torch.testing.assert_close(first.draws["slope"], second.draws["slope"])
    for _ in range(2):
        structure.call()
    assert same(structure.call.args[0], np.arange(float(N)))


def test_containers_and_keywords_stay_as_they_were():
    covariates = {"x": [torch.arange(float(N))], "names": ["x"]}
    posterior = fit(nested, DATA, ([1],), {"covariates": covariates}, **QUICK)
    assert covariates["names"] == ["x"] and same(covariates["x"][0], torch.arange(N))
    torch.testing.assert_close(
        posterior.draws["slope"], fit(plain, DATA, (np.arange(N),), **QUICK).draws["slope"]
    )


def test_a_story_that_writes_nothing_gets_no_copies():
    x = torch.tensor([1.0, float("nan"), 3.0], dtype=torch.float64)
    structure, _ = inspect_story(Call.bind(lambda x: line(x.nan_to_num()), (x,)))
    assert not structure.call.writes and structure.call.fresh() is structure.call


def test_read_only_and_foreign_arrays():
    x = np.arange(float(N)).astype(">f4")
    x.flags.writeable = False
    assert fit(writing, DATA, (x,), **QUICK).draws["slope"].shape == (2, 200)


@dataclasses.dataclass
class Record:
    """An argument that holds its array under a name."""

    x: object


def above_two(held):
    """Written once, x tells which rows are above 2; written twice, it is 0 everywhere."""
    if isinstance(held, pd.DataFrame):
        held["x"] = (held["x"] > 2) * 1.0
    else:
        held.x = (held.x > 2) * 1.0
    x = held.x if isinstance(held.x, torch.Tensor) else torch.as_tensor(np.array(held.x))
    slope = pyro.sample("slope", dist.Normal(0.0, 10.0))
    with pyro.plate("row", 4, dim=-1):
        pyro.sample("y", dist.Normal(slope * x, 0.5))


@pytest.mark.parametrize(
    "held",
    [
        Record(np.arange(1.0, 5.0)), Record(torch.arange(1.0, 5.0)),
        types.SimpleNamespace(x=torch.arange(1.0, 5.0)), pd.DataFrame({"x": np.arange(1.0, 5.0)}),
    ],
)  # fmt: skip
def test_tables_and_records_that_a_story_writes_into(held):
    draws = fit(above_two, {"y": torch.tensor([0.0, 0.1, 1.9, 2.1])}, (held,), seed=0).draws["slope"]
    mean, sd = 16 / 8.01, 8.01**-0.5  # slope ~ Normal(0, 10) and two rows of noise .5 that see it
    assert abs(float(draws.mean()) - mean) < 5 * sd / draws.numel() ** 0.5
    assert abs(float(draws.std()) / sd - 1) < 5 / draws.numel() ** 0.5
    assert held.x.tolist() == [1.0, 2.0, 3.0, 4.0]


def test_data_sets_that_share_an_argument_that_is_written_into():
    def story(x):
        x.copy_(x > 2)
        slope = pyro.sample("slope", dist.Normal(0.0, 10.0))
        with pyro.plate("row", 4, dim=-1):
            pyro.sample("y", dist.Normal(slope * x, 0.5))

    structure, _ = inspect_story(Call.bind(story, (torch.arange(1.0, 5.0),)))
    assert inspect_story(structure.call)[0].call.writes  # looked at once more, it still is
    data = [{"y": torch.tensor([0.0, 0.1, 1.9, 2.1])}] * 2
    for posterior in fit_many(story, data, (torch.arange(1.0, 5.0),), seed=0):
        draws = posterior.draws["slope"]
        assert abs(float(draws.mean()) - 16 / 8.01) < 5 * (8.01 * draws.numel()) ** -0.5
        assert posterior.certificate.trusted


# what is refused


def test_arrays_and_tables_that_a_story_reaches_without_being_given_them():
    array, frame, runs = np.arange(float(N)), pd.DataFrame({"x": np.arange(float(N))}), []

    def into_array(n):
        array[:] = array + 1
        line(torch.as_tensor(array))

    def into_frame(n):
        frame["x"] += 1
        line(torch.as_tensor(frame["x"].to_numpy(copy=True)))

    def counting(n):
        runs.append(n)
        line(torch.arange(float(n)))

    with pytest.raises(
        ValueError, match="^story: it writes in place into array, .*Pass array as an argument"
    ):
        fit(into_array, DATA, (N,))
    assert array.tolist() == list(range(N))
    with pytest.raises(
        ValueError, match="^story: it writes in place into frame, .*Pass frame as an argument"
    ):
        fit(into_frame, DATA, (N,))
    assert fit(counting, DATA, (N,), **QUICK).certificate.reasons is not None and runs


def test_a_story_that_writes_into_a_sites_value():
    def into_data(n):
        mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
        with pyro.plate("row", n, dim=-1):
            y = pyro.sample("y", dist.Normal(mu, 1.0))
        y -= y.mean()

    def into_observed(x):
        line(x)
        with pyro.plate("again", len(x), dim=-1):
            pyro.sample("own", dist.Normal(0.0, 1.0), obs=x)
        x += 1

    y, x = Y.clone(), Y.clone()
    with pytest.raises(ValueError, match="writes into the value of the site 'y' in place"):
        fit(into_data, {"y": y})
    with pytest.raises(ValueError, match="writes into the value of the site 'own' in place"):
        fit(into_observed, DATA, (x,))
    assert same(y, Y) and same(x, Y)


OUTSIDE = torch.arange(float(N))


def of_a_global(n):
    OUTSIDE.sub_(1)
    line(OUTSIDE)


def of_a_closure():
    held = torch.arange(float(N))

    def story(n):
        nonlocal held
        held -= 1
        line(held)

    return story, held


def of_a_default(n, held=OUTSIDE):
    held[0] = 9.0
    line(held)


@pytest.mark.parametrize(
    "story, held",
    [
        (of_a_global, OUTSIDE), of_a_closure(), (of_a_default, OUTSIDE),
        (functools.partial(writing, OUTSIDE), OUTSIDE),
    ],
    ids=["global", "closure", "default", "partial"],
)  # fmt: skip
def test_tensors_that_a_story_reaches_without_being_given_them(story, held):
    with pytest.raises(ValueError, match=r"^story: it writes in place into .*Pass .* as an argument"):
        fit(story, DATA, () if isinstance(story, functools.partial) else (N,))
    assert same(held, torch.arange(float(N)))


def test_a_guide_that_writes():
    def own(x, data):
        loc = pyro.param("loc", torch.zeros(()))
        data["y"].sub_(1.0)
        pyro.sample("slope", dist.Normal(loc, 0.1))

    def argument(x):
        x += 1
        pyro.sample("slope", dist.Normal(pyro.param("loc", torch.zeros(())), 0.1))

    x = torch.arange(float(N), dtype=torch.float64)
    for guide in (own, argument):
        with pytest.raises(ValueError, match="^guide: it writes into its arguments or its data"):
            fit(line, DATA, (x,), guide=guide, steps=10, **QUICK)
    assert same(x, torch.arange(N)) and same(DATA["late"], Y > 3)


def test_a_loaders_rows_are_copied():
    class Whole(list):
        dataset = ()

    def story(n):
        mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
        with pyro.plate("row", n, dim=-1):
            pyro.sample("y", dist.Normal(mu, 1.0))

    y = Y.clone()
    structure, observations = inspect_rows(Call.bind(story), as_observations({"y": y}))
    rows = Rows(
        structure, observations, plan(structure, observations), None, Whole([{"y": y[:6]}, {"y": y[6:]}])
    )
    next(rows.epochs()).values["y"].add_(1.0)
    assert same(y, Y)


# complex numbers


@pytest.mark.parametrize(
    "value", [torch.ones(N) + 0j, np.ones(N) + 1j, 1j, torch.ones(N, dtype=torch.complex64), np.complex64(1j)]
)
def test_complex_arguments(value, pair):
    nested = {"covariates": {"z": value}}
    with pytest.raises(ValueError, match=r"^x: expected real numbers, got .*complex.*real and the imaginary"):
        fit(line, DATA, (value,))
    with pytest.raises(ValueError, match=r"^covariates\['z'\]: expected real numbers"):
        fit(lambda covariates: line(Y), DATA, (), nested)
    for ask in (
        lambda: prior(line, (value,)),
        lambda: reference(line, DATA, (value,)),
        lambda: fit_many(line, [DATA], (value,)),
        lambda: fit_many(line, [DATA] * 2, each=[(Y,), (value,)]),
        lambda: pair[1].sample("y", args=(value,)),
        lambda: pair[1].log_prob({"y": Y}, args=(value,)),
        lambda: pair[1].probabilities("late", args=(value,)),
    ):
        with pytest.raises(ValueError, match="^x: expected real numbers"):
            ask()


@pytest.mark.parametrize(
    "value", [Y + 1j, (Y + 1j).numpy(), np.ma.masked_array((Y + 1j).numpy(), Y.numpy() < 0)]
)
def test_complex_data(value, pair):
    data = {**DATA, "y": value}
    x, found, _ = pair
    for ask in (
        lambda: fit(line, data, (x,)),
        lambda: fit(line, data, (x,), guide=pyro.infer.autoguide.AutoNormal),
        lambda: reference(line, data, (x,)),
        lambda: fit_many(line, [DATA, data], (x,)),
        lambda: found.sample("late", given={"y": value}, args=(x,)),
        lambda: found.log_prob({"y": value}, args=(x,)),
        lambda: found.probabilities("late", given={"y": value}, args=(x,)),
        lambda: fit(line, DATA, (x,), held_out=data, guide=pyro.infer.autoguide.AutoNormal),
    ):
        with pytest.raises(ValueError, match=r"\['y'\]: expected numbers, got .*complex128.*imaginary"):
            ask()
