"""The conversion to ArviZ; the file runs without torch, on ArviZ 0.x and on 1.x."""

import json
import subprocess
import sys

import numpy as np
import pytest

from inference.arviz_groups.build import build, write_netcdf

az = pytest.importorskip("arviz")
OLD = int(az.__version__.split(".")[0]) < 1
CHAINS, DRAWS, ROWS, STDDEV = 4, 500, 40, 2.0


@pytest.fixture(scope="module")
def arrays():
    """x_i ~ Normal(mu, 2), flat prior: mu | x ~ Normal(mean x, 2 / sqrt(n)), drawn exactly."""
    rng = np.random.default_rng(20240611)
    x = rng.normal(1.0, STDDEV, ROWS)
    mu = rng.normal(x.mean(), STDDEV / np.sqrt(ROWS), (CHAINS, DRAWS))
    standardized = (x - mu[..., None]) / STDDEV
    log_likelihood = -0.5 * standardized**2 - np.log(STDDEV * np.sqrt(2 * np.pi))
    replicated = mu[..., None] + STDDEV * rng.normal(size=(CHAINS, DRAWS, ROWS))
    return {
        "posterior": {"mu": mu},
        "log_likelihood": {"x": log_likelihood},
        "log_prior": {"mu": np.zeros((CHAINS, DRAWS))},
        "sample_stats": {"lp": log_likelihood.sum(-1)},
        "posterior_predictive": {"x": replicated},
        "prior_predictive": {},
        "observed_data": {"x": x},
        "constant_data": {"stddev": np.array(STDDEV)},
        "fit": {"elbo": np.linspace(-100, -90, 7)},
    }


@pytest.fixture(scope="module")
def out(arrays):
    return build(
        arrays,
        dims={"x": ["row"], "elbo": ["step"]},
        coords={"row": [f"row {i}" for i in range(ROWS)]},
        attrs={"trusted": True, "rhat": None, "khat": np.float64(0.25), "reasons": ["a", "b"]},
    )


def names(out):
    return set(out.groups()) if OLD else {path.strip("/") for path in out.groups} - {""}


def test_every_group_has_its_dimensions(out, arrays):
    assert names(out) == set(arrays) - {"prior_predictive"}  # an empty group is left out
    sizes = {group: dict(out[group].sizes) for group in names(out)}
    sampled = {"chain": CHAINS, "draw": DRAWS}
    assert sizes == {
        "posterior": sampled,
        "log_likelihood": sampled | {"row": ROWS},
        "log_prior": sampled,
        "sample_stats": sampled,
        "posterior_predictive": sampled | {"row": ROWS},
        "observed_data": {"row": ROWS},
        "constant_data": {},
        "fit": {"step": 7},
    }
    for group, variables in arrays.items():
        for name, values in variables.items():
            np.testing.assert_array_equal(out[group][name].values, values)


def test_coordinates_are_the_given_labels_or_positions(out):
    assert list(out["observed_data"]["row"].values[:2]) == ["row 0", "row 1"]
    assert list(out["posterior_predictive"]["row"].values[-1:]) == [f"row {ROWS - 1}"]
    assert list(out["posterior"]["chain"].values) == list(range(CHAINS))
    assert list(out["fit"]["step"].values) == list(range(7))


def test_kinds_of_container(out):
    import xarray

    kind = az.InferenceData if OLD else xarray.DataTree
    assert isinstance(out, kind)


def test_attributes_are_numbers_or_text(out):
    for attrs in (out.attrs, out["posterior"].attrs, out["fit"].attrs):
        assert attrs["inference_library"] == "ppl-workbench"
        assert {"inference_library_version", "created_at"} <= set(attrs)
        assert json.loads(attrs["trusted"]) is True
        assert json.loads(attrs["rhat"]) is None
        assert json.loads(attrs["reasons"]) == ["a", "b"]
        assert attrs["khat"] == 0.25
        assert all(isinstance(value, str | int | float) for value in attrs.values())


def test_a_variable_without_names_gets_the_usual_ones():
    out = build({"posterior": {"w": np.zeros((2, 5, 3, 4))}}, {}, {}, {})
    assert dict(out["posterior"].sizes) == {"chain": 2, "draw": 5, "w_dim_0": 3, "w_dim_1": 4}


def test_densities_lack_the_dimensions_that_were_summed():
    values = {
        "posterior_predictive": {"x": np.zeros((2, 5, 6, 3))},
        "log_likelihood": {"x": np.zeros((2, 5, 6))},
        "observed_data": {"x": np.zeros((6, 3))},
    }
    out = build(values, {"x": ["row", "pixel"]}, {"pixel": ["a", "b", "c"]}, {})
    assert dict(out["log_likelihood"].sizes) == {"chain": 2, "draw": 5, "row": 6}
    assert dict(out["observed_data"].sizes) == {"row": 6, "pixel": 3}


def test_masked_elements_become_nan():
    labels = np.ma.masked_array([1, 2, 3], mask=[False, True, False])
    out = build({"observed_data": {"y": labels}}, {}, {}, {})
    np.testing.assert_array_equal(out["observed_data"]["y"].values, [1.0, np.nan, 3.0])


def test_groups_may_differ_in_their_number_of_draws():
    values = {
        "posterior": {"mu": np.zeros((2, 50))},
        "posterior_predictive": {"x": np.zeros((2, 10, 4))},
    }
    out = build(values, {"x": ["row"]}, {}, {})
    assert (out["posterior"].sizes["draw"], out["posterior_predictive"].sizes["draw"]) == (50, 10)


@pytest.mark.parametrize(
    ("groups", "dims", "coords", "words"),
    [
        ({"posterior": {"w": np.zeros((2, 5, 3))}}, {"w": ["a", "b"]}, {}, "'w' (2, 5, 3) a b"),
        ({"posterior": {"w": np.zeros((2, 5, 3))}}, {"w": ["draw"]}, {}, "'w' (2, 5, 3) draw"),
        ({"posterior": {"w": np.zeros((2, 5, 3, 3))}}, {"w": ["a", "a"]}, {}, "'w' different"),
        ({"posterior": {"w": np.zeros(5)}}, {}, {}, "'w' 'posterior' (chain, draw (5,)"),
        ({"observed_data": {"x": np.zeros((6, 3))}}, {"x": ["row"]}, {}, "'x' (6, 3) row"),
        ({"posterior": {"w": np.zeros((2, 5, 3))}}, {"w": ["a"]}, {"a": [1, 2]}, "'a' 3 (2,)"),
        ({"posterior": {"w": np.zeros((2, 5, 3))}}, {"w": ["a"]}, {"b": [1, 2]}, "'b' 'a'"),
        (
            {"posterior": {"v": np.zeros((2, 5, 3)), "w": np.zeros((2, 5, 4))}},
            {"v": ["a"], "w": ["a"]},
            {},
            "'a' 'v' 'w' 3 4",
        ),
        ({"posterior": {"v": np.zeros((2, 5)), "w": np.zeros((2, 6))}}, {}, {}, "'draw' 5 6"),
        ({"posteriro": {"v": np.zeros((2, 5))}}, {}, {}, "posteriro posterior_predictive"),
    ],
)
def test_what_does_not_fit_is_named(groups, dims, coords, words):
    with pytest.raises(ValueError, match=r"^(groups|dims|coords): expected") as error:
        build(groups, dims, coords, {})
    assert [word for word in words.split() if word not in str(error.value)] == []


def test_netcdf_and_back(out, arrays, tmp_path):
    path = write_netcdf(out, tmp_path / "out.nc")
    assert [file.name for file in tmp_path.iterdir()] == ["out.nc"]
    back = az.from_netcdf(path)
    assert names(back) == names(out)
    for group in names(out):
        assert dict(back[group].sizes) == dict(out[group].sizes)
        assert dict(back[group].attrs) == dict(out[group].attrs)
        for name, values in arrays[group].items():
            np.testing.assert_array_equal(back[group][name].values, values)
    np.testing.assert_array_equal(back["observed_data"]["row"], out["observed_data"]["row"])


def test_a_failed_write_leaves_the_older_file(out, tmp_path):
    path = tmp_path / "out.nc"
    path.write_bytes(b"older")
    broken = build({"posterior": {"a": np.zeros((2, 3))}}, {}, {}, {})
    broken["posterior"]["a"].attrs["object"] = object()
    with pytest.raises(TypeError):
        write_netcdf(broken, path)
    assert path.read_bytes() == b"older"
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(ValueError, match="existing folder"):
        write_netcdf(out, tmp_path / "nowhere" / "out.nc")


def test_summary_is_of_these_draws(out, arrays):
    row = az.summary(out).loc["mu"]
    mu = arrays["posterior"]["mu"]
    assert row["mean"] == pytest.approx(mu.mean(), abs=5e-4)  # 0.x rounds to three digits
    assert row["sd"] == pytest.approx(mu.std(), abs=1e-3)
    assert row["r_hat"] == pytest.approx(1.0, abs=0.01)


def test_loo_is_the_exact_leave_one_out_density(out, arrays):
    """log p(x_i | x_-i) is normal about the mean of the others, with variance 4 (1 + 1/(n-1))."""
    x = arrays["observed_data"]["x"]
    others = (x.sum() - x) / (ROWS - 1)
    variance = STDDEV**2 * ROWS / (ROWS - 1)
    exact = (-0.5 * (x - others) ** 2 / variance - 0.5 * np.log(2 * np.pi * variance)).sum()
    result = az.loo(out)
    # The estimate is -log mean(1/p) a row; errors of the rows add up at most.
    ratio = np.exp(-arrays["log_likelihood"]["x"]).reshape(-1, ROWS)
    error = (ratio.std(0) / ratio.mean(0)).sum() / np.sqrt(CHAINS * DRAWS)
    assert abs((result.elpd_loo if OLD else result.elpd) - exact) < 4 * error
    assert len(az.compare({"one": out, "other": out})) == 2


@pytest.mark.skipif(not OLD, reason="ArviZ 1.x draws these under other names, tested below")
@pytest.mark.parametrize(
    "draw",
    [
        lambda out: az.plot_trace(out),
        lambda out: az.plot_posterior(out),
        lambda out: az.plot_ppc(out),
        lambda out: az.plot_loo_pit(out, y="x"),
    ],
    ids=["plot_trace", "plot_posterior", "plot_ppc", "plot_loo_pit"],
)
def test_plots_of_arviz_0(out, draw):
    import matplotlib.pyplot as plt

    axes = np.atleast_1d(draw(out)).ravel()
    assert all(ax.has_data() for ax in axes)
    plt.close("all")


@pytest.mark.skipif(OLD, reason="ArviZ 0.x draws these under other names, tested above")
@pytest.mark.parametrize("name", ["plot_trace", "plot_dist", "plot_ppc_dist", "plot_loo_pit"])
def test_plots_of_arviz_1(out, name):
    plt = pytest.importorskip("matplotlib.pyplot")
    plot = getattr(az, name)(out)
    assert any(ax.has_data() for ax in plot.viz["figure"].item().axes)
    plt.close("all")


@pytest.mark.filterwarnings("ignore:.*'ecdf_pit'.*:FutureWarning")
def test_ranks_of_truths_are_what_calibration_plots_read():
    """Uniform PIT values of 200 fits: the ECDF is drawn, and ArviZ's band holds it."""
    plt = pytest.importorskip("matplotlib.pyplot")
    pit = (np.random.default_rng(3).permutation(200) + 0.5) / 200
    out = build({"prior_sbc": {"mu": pit[None], "tau": pit[None, ::-1]}}, {}, {}, {})
    assert dict(out["prior_sbc"].sizes) == {"chain": 1, "draw": 200}
    if OLD:
        axes = [
            az.plot_ecdf(
                out["prior_sbc"]["mu"].values.ravel(), eval_points=np.linspace(0, 1, 50), cdf=lambda x: x,
                difference=True, confidence_bands="pointwise", ci_prob=0.95,
            )
        ]  # fmt: skip
    else:
        axes = az.plot_ecdf_pit(out).viz["figure"].item().axes
    assert any(axis.has_data() for axis in np.ravel(axes))
    plt.close("all")


def test_the_conversion_needs_neither_torch_nor_an_import_of_arviz():
    code = "import sys, inference.arviz_groups.build; print({'torch', 'arviz', 'xarray'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
