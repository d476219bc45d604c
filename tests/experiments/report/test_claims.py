"""The arithmetic of claims, at and beside its boundary."""

import math

import pytest

from experiments.report.claims import Claim, claims_text, count, verdict

BELOW, ABOVE = -1e-6, 1e-6


def met(measured, known, relation="equal", error=0.0, numerical=0.0):
    return Claim("c", measured, known, error, numerical, relation=relation).met


@pytest.mark.parametrize("known", [0.0, 0.7, 1.0, -3.1, 1e6])
@pytest.mark.parametrize(("error", "numerical"), [(0.1, 0.0), (0.0, 0.3), (0.1, 0.3)])
def test_equal_is_met_up_to_four_errors_plus_the_numerical_error(known, error, numerical):
    tolerance = 4 * error + numerical
    for sign in (1, -1):
        assert met(known + sign * tolerance, known, "equal", error, numerical)
        assert met(known + sign * (tolerance + BELOW), known, "equal", error, numerical)
        assert not met(known + sign * (tolerance + ABOVE), known, "equal", error, numerical)


def test_one_sided_claims_forgive_only_on_their_side():
    assert met(0.9, 0.5, "at least")
    assert met(0.5, 0.5, "at least")
    assert met(0.1, 0.5, "at least", error=0.1)
    assert not met(0.1 + BELOW, 0.5, "at least", error=0.1)
    assert met(0.1, 0.5, "at most")
    assert met(0.9, 0.5, "at most", error=0.1)
    assert not met(0.9 + ABOVE, 0.5, "at most", error=0.1)


def test_without_any_tolerance_only_equal_numbers_agree():
    assert met(1.0, 1.0)
    assert not met(1.0 + 1e-9, 1.0)


def test_nan_meets_nothing_and_infinity_only_itself():
    for relation in ("equal", "at least", "at most"):
        assert not met(math.nan, 0.0, relation, error=1e9)
        assert not met(0.0, math.nan, relation, error=1e9)
    assert met(math.inf, math.inf)
    assert not met(math.inf, 1.0, error=1.0)
    assert met(math.inf, 1.0, "at least")
    assert not met(-math.inf, 1.0, "at least", error=1.0)


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"relation": "about"}, "relation"),
        ({"error": -0.1}, "error"),
        ({"error": math.nan}, "error"),
        ({"numerical": math.inf}, "numerical"),
        ({"measured": "high"}, "measured"),
        ({"known": None}, "known"),
    ],
)
def test_a_claim_that_says_nothing_is_refused_by_name(changes, name):
    with pytest.raises(ValueError, match=f"^{name}: expected"):
        Claim(**{"text": "c", "measured": 1.0, "known": 1.0, **changes})


def test_published_numbers_and_smoke_runs_are_not_judged():
    far = Claim("far", 0.0, 1.0)
    other = Claim("others", 0.0, 1.0, relation="published")
    assert (far.met, other.met) == (False, None)
    assert [verdict(c) for c in (far, other)] == ["NOT MET", "not judged"]
    assert verdict(far, smoke=True) == "not judged"
    assert far.record()["met"] is False
    assert far.record(smoke=True)["met"] is None
    assert count([far, other, Claim("near", 1.0, 1.0)]) == (1, 2)


def test_the_terminal_table_is_plain_and_aligned():
    long = "the share of images that are named correctly is at least that of the exact posterior"
    claims = [
        Claim("short", 0.913421, 0.9, error=0.00723, source="Author (2001)"),
        Claim(long, 1.0, 2.0, relation="at least"),
    ]
    text = claims_text(claims)
    assert text.isascii()
    head, first, *rest = text.splitlines()
    assert first.index("0.9134 +- 0.0072") == head.index("measured")
    assert first.index("= 0.9") == head.index("known")
    assert first.index("Author (2001)") == head.index("source")
    assert rest[0].startswith("NOT MET")
    assert ">= 2" in rest[0]
    assert max(map(len, text.splitlines())) < 120
    assert claims_text([]) == "no claims"
