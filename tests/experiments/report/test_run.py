"""What `main(run)` can add, and which files it becomes."""

import csv
import json
import struct

import numpy as np
import pandas
import pytest

from experiments.report.blocks import Picture, Section, Story, Table, Text
from experiments.report.summary import MOST_ROWS, summarize


def read_csv(path):
    with path.open(newline="") as stream:
        return list(csv.reader(stream))


def test_blocks_keep_their_order(run):
    import matplotlib.pyplot as plt

    run.section("Data", "Ten tosses.")
    run.figure("tosses", plt.figure(), "All tosses.")
    run.text("More.")
    run.table("counts", [{"side": "heads", "count": 6}], "Counted.")
    assert [type(block) for block in run.blocks] == [Section, Picture, Text, Table]


def test_a_figure_is_saved_and_closed(run):
    import matplotlib.pyplot as plt

    before = plt.get_fignums()
    run.figure("tosses", plt.figure(figsize=(4, 2)), "All tosses.")
    content = (run.folder / "tosses.png").read_bytes()
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    assert struct.unpack(">II", content[16:24]) > (100, 50)
    assert plt.get_fignums() == before


def test_axes_arrays_of_axes_and_grids_are_figures_too(run):
    import matplotlib.pyplot as plt
    import seaborn

    _, axes = plt.subplots(2, 2)
    run.figure("axes", axes, "An array, as ArviZ returns it.")
    run.figure("axis", plt.subplots()[1], "One of them.")
    grid = seaborn.displot(pandas.DataFrame({"x": [1.0, 2.0, 4.0]}), x="x")
    run.figure("grid", grid, "A grid.")
    assert not plt.get_fignums()
    assert len(list(run.folder.glob("*.png"))) == 3
    with pytest.raises(ValueError, match="figure: expected a matplotlib figure or axes, got str"):
        run.figure("text", "no figure", "")


def test_a_table_is_written_in_full_precision(run):
    third = 1 / 3
    run.table("t", [{"x": third, "name": "a, b"}, {"x": np.float32(2), "more": 1}], "")
    rows = read_csv(run.folder / "t.csv")
    assert rows == [["x", "name", "more"], [repr(third), "a, b", ""], ["2.0", "", "1"]]


def test_a_frame_keeps_an_index_that_says_something(run):
    frame = pandas.DataFrame({"x": [1, 2]}, index=pandas.Index(["a", "b"], name="site"))
    run.table("named", frame, "")
    run.table("plain", frame.reset_index(drop=True), "")
    assert read_csv(run.folder / "named.csv") == [["site", "x"], ["a", "1"], ["b", "2"]]
    assert read_csv(run.folder / "plain.csv") == [["x"], ["1"], ["2"]]


@pytest.mark.parametrize("rows", [{"x": 1}, "rows", 3, [1, 2]])
def test_other_rows_are_refused(run, rows):
    with pytest.raises(ValueError, match="rows: expected a DataFrame or a list of dicts"):
        run.table("t", rows, "")


def test_names_become_files_of_this_folder_and_no_other(run):
    run.table("a", [{"x": 1}], "")
    with pytest.raises(ValueError, match=r"a\.csv was already written"):
        run.table("a", [{"x": 1}], "")
    for name in ("../a", "a/b", "", ".hidden", "a b"):
        with pytest.raises(ValueError, match="name: expected letters"):
            run.table(name, [{"x": 1}], "")


def test_metrics_take_tensors_and_refuse_a_second_of_the_same_name(run):
    torch = pytest.importorskip("torch")

    run.metric("loss", torch.tensor(0.5), error=torch.tensor(0.25), unit="nats")
    assert vars(run.metrics["loss"]) == {"value": 0.5, "error": 0.25, "unit": "nats"}
    with pytest.raises(ValueError, match="'loss' was already given"):
        run.metric("loss", 0.4)


def test_claims_and_published_numbers_keep_their_order(run):
    torch = pytest.importorskip("torch")

    assert run.claim("ours", torch.tensor(0.5), 0.5, source="theory").met
    run.published("theirs", 0.5, 0.9, source="A (2001)")
    assert [(c.text, c.relation) for c in run.claims] == [
        ("ours", "equal"),
        ("theirs", "published"),
    ]
    with pytest.raises(ValueError, match=r"run\.published"):
        run.claim("ours", 0.5, 0.9, relation="published")


def test_a_posterior_is_saved_for_arviz_and_summarized(run, fitted):
    import arviz

    run.posterior("fit", fitted())
    again = arviz.from_netcdf(str(run.folder / "fit.nc"))
    assert again["posterior"]["theta"].shape == (4, 100, 2, 3)
    rows = read_csv(run.folder / "fit_summary.csv")
    assert [row[0] for row in rows[1:3]] == ["mu", "theta[0, 0]"]
    assert float(rows[1][rows[0].index("mean")]) == pytest.approx(
        float(again["posterior"]["mu"].mean()), rel=1e-12
    )


def test_a_given_idata_is_used_instead_of_another_conversion(run, fitted):
    class Once(type(fitted())):
        def to_arviz(self):
            raise AssertionError("converted twice")

    run.posterior("fit", Once(), idata=fitted().to_arviz())
    assert (run.folder / "fit.nc").stat().st_size > 0


def test_the_shown_summary_is_rounded_by_the_standard_deviation(fitted):
    full, shown = summarize(fitted().to_arviz())
    mean = full.columns.index("mean")
    assert "." in shown.rows[0][mean]
    # A standard deviation near 1,000 has its third digit before the point.
    assert "." not in shown.rows[1][mean]
    assert isinstance(full.rows[1][mean], float)


def test_a_summary_names_what_is_too_long_for_it(fitted):
    full, shown = summarize(fitted(shape=(MOST_ROWS,)).to_arviz())
    assert [row[0] for row in full.rows] == ["mu"]
    assert "theta" in shown.caption


def test_a_story_in_a_module_of_its_name_is_documented_by_the_module():
    pytest.importorskip("pyro")
    from ppl_models.linear_regression import exact, linear_regression

    story = Story.of(linear_regression, "p(y | x)")
    assert story.name == "linear_regression"
    assert "Joint" in story.documentation
    assert story.source.startswith("def linear_regression(")
    assert Story.of(exact).documentation == ""


def test_the_source_of_a_module_story_is_its_class():
    torch = pytest.importorskip("torch")

    class Net(torch.nn.Module):
        def forward(self):
            return 1

    assert "def forward" in Story.of(Net()).source


def test_numpy_and_tensor_values_reach_json(run):
    torch = pytest.importorskip("torch")
    from experiments.report.folder import write_json

    write_json(run.folder / "a.json", {"a": np.float64(0.5), "b": torch.ones(2), "c": np.int64(3)})
    assert json.loads((run.folder / "a.json").read_text()) == {"a": 0.5, "b": [1.0, 1.0], "c": 3}
