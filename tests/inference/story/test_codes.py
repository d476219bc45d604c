"""Arguments by which a story indexes: negative codes are refused by name, everything else stays as it was."""

import math

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch

from inference import fit, fit_many, load, prior, reference
from inference.story.call import Call
from inference.story.inspection import inspect_story

ROWS = np.arange(40)
SCHOOL = ROWS % 4
Y = np.array([1.0, 2.0, 3.0, 9.0])[SCHOOL] + np.sin(ROWS)
MISSING = np.where(ROWS % 5 == 0, -1, SCHOOL)  # pandas: -1 is a missing category
WHERE = r"got -1 in 8 of 40 rows \(0, 5, 10, 15, 20, \.\.\.\).*drop those rows.*level of their own"
QUICK = {"restarts": 2, "draws": 200, "seed": 0}


def means(schools=4):
    with pyro.plate("schools", schools, dim=-1):
        return pyro.sample("a", dist.Normal(0.0, 10.0))


def observe(loc):
    with pyro.plate("row", len(loc), dim=-1):
        pyro.sample("y", dist.Normal(loc, 1.0))


def by_school(school):
    observe(means()[school])


def exact(level, rows):
    """The posterior mean of a level: its rows' sum over their number and the prior's precision."""
    own = Y[rows & (MISSING == level)]
    return own.sum() / (len(own) + 0.01)


def test_missing_categories_are_refused_and_the_other_rows_give_the_right_mean():
    with pytest.raises(ValueError, match="^school: the story indexes by it.*" + WHERE):
        fit(by_school, {"y": Y}, (MISSING,))
    seen = MISSING >= 0
    posterior = fit(by_school, {"y": Y[seen]}, (MISSING[seen],), seed=0)
    found, error = float(posterior.draws["a"][..., 3].mean()), 4 * math.sqrt(1 / 8.01 / 4000)
    assert posterior.certificate.trusted
    assert abs(found - exact(3, seen)) < error
    assert abs(exact(3, seen) - 9.07) < 0.005


def loop(school):
    a = means()
    observe(torch.stack([a[int(one)] for one in school]))


def listed(school):
    observe(means()[school.tolist()])


def through_numpy(school):
    observe(means()[school.numpy()])


def selected(school):
    observe(means().take(school))


def gathered(school):
    observe(means().gather(0, school))


def embedded(school):
    observe(torch.nn.functional.embedding(school, means()[:, None])[:, 0])


def hot(school):
    observe(torch.nn.functional.one_hot(school, 4).double() @ means())


def added(school):
    offset = torch.zeros(4)
    offset[school] += 1.0
    observe(means().sum() + offset[0] + 0 * school)


def plain_list(school):
    levels = [pyro.sample(f"a{i}", dist.Normal(0.0, 10.0)) for i in range(4)]
    observe(torch.stack([levels[one] for one in school]))


WAYS = [loop, listed, through_numpy, selected, gathered, embedded, hot, added, plain_list]


@pytest.mark.parametrize("story", WAYS, ids=lambda story: story.__name__)
def test_every_way_to_index(story):
    with pytest.raises(ValueError, match="^school: .*" + WHERE):
        fit(story, {"y": Y}, (MISSING,))
    inspect_story(Call.bind(story, (SCHOOL,)))


@pytest.mark.parametrize(
    "kind", [torch.as_tensor, lambda x: torch.as_tensor(x).int(), lambda x: x.astype(np.int8), list]
)
def test_every_kind_of_whole_numbers(kind):
    def story(school):
        observe(means()[school])

    with pytest.raises(ValueError, match="^school: .*" + WHERE):
        fit(story, {"y": Y}, (kind(MISSING),))


def test_whole_numbers_that_pandas_made_floats():
    with pytest.raises(ValueError, match="^school: .*" + WHERE):
        fit(lambda school: observe(means()[school.long()]), {"y": Y}, (MISSING.astype(float),))


def test_a_part_of_an_argument_is_named():
    def story(first, *rest, covariates):
        observe(means()[rest[0]] + means_of("b")[covariates["class"][1]])

    def means_of(name):
        return pyro.sample(name, dist.Normal(0.0, 1.0).expand([4]).to_event(1))

    good = {"covariates": {"class": (0, SCHOOL)}}
    with pytest.raises(ValueError, match=r"^covariates\['class'\]\[1\]: .*" + WHERE):
        fit(story, {"y": Y}, (3, SCHOOL), {"covariates": {"class": (0, MISSING)}})
    with pytest.raises(ValueError, match=r"^rest\[0\]: .*" + WHERE):
        fit(story, {"y": Y}, (3, MISSING), good)


def test_codes_of_two_axes_and_a_single_one():
    pairs = np.stack([SCHOOL, MISSING], 1)
    with pytest.raises(ValueError, match=r"^pairs: .*got -1 in 8 of 80 rows \(\(0, 1\), \(5, 1\)"):
        fit(lambda pairs: observe(means()[pairs].sum(-1)), {"y": Y}, (pairs,))
    with pytest.raises(ValueError, match=r"^k: the story indexes by it.*got -1\. "):
        fit(lambda k: observe(means()[k] + torch.zeros(40)), {"y": Y}, (torch.tensor(-1),))


@pytest.fixture(scope="module")
def fitted():
    return fit(by_school, {"y": Y}, (SCHOOL,), **QUICK)


@pytest.mark.parametrize(
    "ask",
    [
        lambda p: p.sample("y", args=(MISSING,), num_samples=10),
        lambda p: p.log_prob({"y": Y}, args=(MISSING,)),
        lambda p: p.sample("y", given={"a": np.ones(4)}, args=(MISSING,), num_samples=10),
    ],
)
def test_questions_to_a_fit(fitted, ask):
    with pytest.raises(ValueError, match="^school: .*" + WHERE):
        ask(fitted)


def test_every_other_verb(fitted, tmp_path):
    for ask in (
        lambda: reference(by_school, {"y": Y}, (MISSING,)),
        lambda: prior(by_school, (MISSING,)),
        lambda: prior(by_school, (SCHOOL,)).sample("y", args=(MISSING,), num_samples=10),
        lambda: fit_many(by_school, [{"y": Y}] * 2, (MISSING,)),
        lambda: fit_many(by_school, [{"y": Y}] * 2, each=[(SCHOOL,), (MISSING,)]),
        lambda: fit_many(by_school, [{"y": Y}] * 3, each=[(SCHOOL,), (MISSING,), (SCHOOL,)]),
        lambda: fit(by_school, {"y": Y}, (MISSING,), guide=pyro.infer.autoguide.AutoNormal),
        lambda: fit(by_school, {"y": Y}, (MISSING,), batch_size=10),
    ):
        with pytest.raises(ValueError, match="^school: .*" + WHERE):
            ask()
    fitted.save(tmp_path / "kept")
    with pytest.raises(ValueError, match="^school: .*" + WHERE):
        load(tmp_path / "kept", by_school, (MISSING,))


def test_probabilities():
    def classes(school):
        with pyro.plate("row", len(school), dim=-1):
            z = pyro.sample("z", dist.Bernoulli(torch.tensor([0.1, 0.5, 0.6, 0.9])[school]))
            pyro.sample("y", dist.Normal(z, 1.0))

    posterior = prior(classes, (SCHOOL,))
    with pytest.raises(ValueError, match="^school: .*" + WHERE):
        posterior.probabilities("z", given={"y": Y}, args=(MISSING,))


def test_codes_from_one_on_taken_for_codes_from_zero_on():
    def story(school):
        observe(means()[school - 1])

    match = r"^school: .*computes from it.*got -1 where school is 0 in 10 of 40 rows \(0, 4, 8,"
    with pytest.raises(ValueError, match=match):
        fit(story, {"y": Y}, (SCHOOL,))
    with pytest.raises(ValueError, match=match):
        fit_many(story, [{"y": Y}] * 2, each=[(SCHOOL + 1,), (SCHOOL,)])
    assert fit(story, {"y": Y}, (SCHOOL + 1,), **QUICK).draws["a"].shape[-1] == 4


@pytest.mark.parametrize("story", [by_school, loop, listed, through_numpy, selected, gathered, embedded, hot])
def test_codes_beyond_the_last_level_name_the_argument(story):
    with pytest.raises(ValueError, match=r"^school: the story indexes by it.*numbers from 1 to 4 \("):
        fit(story, {"y": Y}, (SCHOOL + 1,))
    with pytest.raises(ValueError, match="^school: the story indexes by it.*numbers from 1 to 4"):
        fit_many(story, [{"y": Y}] * 2, each=[(SCHOOL,), (SCHOOL + 1,)])


# what must not be refused


def test_negative_numbers_that_index_nothing():
    def story(year, degrees, school):
        slope = pyro.sample("slope", dist.Normal(0.0, 1.0).expand([3]).to_event(1))
        observe(means()[school] + slope[-1] * year + slope[torch.tensor(-2)] * degrees + slope[[-3, 0]].sum())

    args = ROWS - 20, [int(d) for d in ROWS % 7 - 3], SCHOOL
    story_of_tensors = lambda year, degrees, school: story(year, torch.tensor(degrees), school)  # noqa: E731
    assert fit(story_of_tensors, {"y": Y}, args, **QUICK).draws["slope"].shape[-1] == 3


def test_negative_numbers_are_values_where_another_tensor_indexes():
    def story(year, order):
        observe(pyro.sample("a", dist.Normal(0.0, 1.0)) + year.gather(0, order) + year[order] + year[-1])

    structure, _ = inspect_story(Call.bind(story, (ROWS - 20, ROWS[::-1])))
    assert "y" in structure.sites


def test_branches_masks_and_slices_on_negative_numbers():
    def story(school, lag):
        a = means()
        known = torch.where(school < 0, 0.0, a[school.clamp(min=0)])
        observe(known + (school >= 0) * a[lag:].sum() + a[-lag])

    structure, _ = inspect_story(Call.bind(story, (MISSING, torch.tensor(2))))
    assert "y" in structure.sites


def test_a_story_that_does_not_index_is_run_once():
    runs = []

    def story(x):
        runs.append(0)
        observe(pyro.sample("b", dist.Normal(0.0, 1.0)) * x)

    inspect_story(Call.bind(story, (ROWS - 20,)))
    assert len(runs) == 1


def test_an_error_of_the_storys_own_stays_what_it_is():
    def story(x):
        observe(means()[torch.tensor([7])] + x)

    with pytest.raises(IndexError, match="index 7 is out of bounds"):
        fit(story, {"y": Y}, (ROWS,))


def test_data_that_index_are_checked_by_their_support():
    def story(n):
        a = means()
        with pyro.plate("row", n, dim=-1):
            school = pyro.sample("school", dist.Categorical(torch.ones(4)))
            pyro.sample("y", dist.Normal(a[school], 1.0))

    with pytest.raises(ValueError, match=r"data\['school'\]: expected values in the support"):
        fit(story, {"y": Y, "school": MISSING})


LETTERS = np.array(list("abcd"), dtype=object)[SCHOOL]


def _schools(codes):
    with pyro.plate("school", 4):
        a = pyro.sample("a", dist.Normal(0.0, 10.0))
    with pyro.plate("row", 40):
        pyro.sample("y", dist.Normal(a[torch.as_tensor(np.array(codes)).long()], 1.0))


def by_column(table):
    _schools(table["school"])


def by_category(table):
    _schools(table["school"].cat.codes)


def by_series(series):
    _schools(series)


@pytest.mark.parametrize(
    ("story", "make", "said"),
    [
        (by_column, lambda codes, names: pd.DataFrame({"x": names, "school": codes}), r"table\['school'\]"),
        (by_category, lambda codes, names: pd.DataFrame({"school": pd.Categorical(names)}), "table"),
        (by_series, lambda codes, names: pd.Series(codes, index=range(7, 47)), "series"),
    ],
)
def test_a_column_of_a_table_is_looked_at_too(story, make, said):
    """What pandas codes as missing is refused by the column's name; without it the fit is right."""
    table = make(SCHOOL, LETTERS)
    kept = table.copy()
    posterior = fit(story, {"y": Y}, (table,), seed=0)
    level = Y[SCHOOL == 3].sum() / (10 + 1 / 100)
    assert posterior.certificate.trusted
    assert abs(posterior.draws["a"][..., 3].mean() - level) < 5 * 0.32 / math.sqrt(4000)
    with pytest.raises(ValueError, match=said + r".*: the story indexes by it.*-1 in 8 of 40 rows \(0, 5,"):
        fit(story, {"y": Y}, (make(MISSING, np.where(MISSING < 0, None, LETTERS)),), seed=0)
    assert table.equals(kept)
