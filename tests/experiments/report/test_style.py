"""One style, and it stays inside its block."""

from itertools import combinations

import matplotlib
import numpy as np
import pytest

from experiments.report import style
from experiments.report.style import PALETTE


def test_settings_are_put_back(tmp_path):
    before = dict(matplotlib.rcParams)
    with pytest.raises(RuntimeError, match="stop"), style():
        assert matplotlib.rcParams["axes.spines.top"] is False
        assert matplotlib.rcParams["axes.prop_cycle"].by_key()["color"] == list(PALETTE[:7])
        raise RuntimeError("stop")
    assert dict(matplotlib.rcParams) == before


# Machado, Oliveira & Fernandes (2009), severity 1, on linear RGB.
PROTANOPIA = [[0.1523, 1.0526, -0.2049], [0.1145, 0.7863, 0.0992], [-0.0039, -0.0481, 1.0520]]
DEUTERANOPIA = [[0.3673, 0.8606, -0.2280], [0.2801, 0.6725, 0.0474], [-0.0118, 0.0429, 0.9689]]


def lab(linear):
    """CIE L*a*b* of a colour in linear sRGB; a difference of 2 to 3 is just noticeable."""
    to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    xyz = np.array(to_xyz) @ linear / np.array([0.9505, 1.0, 1.089])
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("eyes", [np.eye(3), PROTANOPIA, DEUTERANOPIA])
def test_the_palette_keeps_apart_for_colour_blind_readers(eyes):
    rgb = np.array([matplotlib.colors.to_rgb(colour) for colour in PALETTE])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = [lab(np.clip(np.array(eyes) @ colour, 0.0, 1.0)) for colour in linear]
    assert min(np.linalg.norm(a - b) for a, b in combinations(seen, 2)) > 15


def test_figures_of_arviz_are_drawn_in_it_saved_and_closed(run, fitted):
    import arviz
    import matplotlib.pyplot as plt

    with style():
        run.figure("trace", arviz.plot_trace(fitted(shape=()).to_arviz()), "Both unknowns.")
    assert (run.folder / "trace.png").stat().st_size > 10_000
    assert not plt.get_fignums()
