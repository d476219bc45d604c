"""The stories of posteriordb against Stan's own evaluation of the Stan programs, at reference draws.

Needs the database's folder `posterior_database` in the environment variable PDB_PATH; skipped without.
"""

import os
from pathlib import Path

import numpy
import pytest
import torch
from pyro import poutine

from experiments.truth import posteriordb
from inference.density.log_density import LogDensity
from inference.runtime.isolation import isolated
from inference.story.bijections import bijection
from inference.story.call import Call
from inference.story.inspection import inspect_story
from inference.story.observations import as_observations

pytestmark = pytest.mark.skipif(
    not Path(os.environ.get("PDB_PATH", ""), "reference_posteriors").is_dir(),
    reason="set PDB_PATH to posteriordb's folder posterior_database (github.com/stan-dev/posteriordb)",
)

ROWS = (0, 2500, 5000, 7500, 9999)  # of the reference draws
# log p(draw) - log p(first draw) at the other four, on the constrained scale, as Stan 2.35 evaluates its
# program (httpstan 4.13: log_prob(data, transform_inits(data, draw), adjust_transform=False)), to ten digits.
STAN = {
    "arma-arma11": (0.7979326291, 2.513568032, 1.012854411, 1.614894343),
    "bball_drive_event_1-hmm_drive_1": (-0.0552122964, -1.795429858, -0.2020837632, -4.118822296),
    "earnings-log10earn_height": (0.4760641009, -1.255643115, 1.115102034, -0.9936798042),
    "earnings-logearn_height": (4.225278903, 3.423979402, 6.078463484, 4.810214929),
    "earnings-logearn_height_male": (-2.100849727, 0.0932930034, 0.8407209839, 1.502094707),
    "earnings-logearn_interaction": (3.343460965, -2.469392679, 2.224245876, 2.053840038),
    "earnings-logearn_interaction_z": (1.18613291, 0.5049476013, -0.01414287327, -5.171016258),
    "earnings-logearn_logheight_male": (-1.9155032, -0.8460237185, 0.1741071393, 1.592168403),
    "eight_schools-eight_schools_noncentered": (-0.5346153562, -1.043812647, -2.012917244, -3.046947417),
    "gp_pois_regr-gp_pois_regr": (0.548767833, 1.565185511, 3.76242306, 4.309052001),
    "hmm_example-hmm_example": (0.7447244918, 0.3166675047, -3.999167784, -1.34451175),
    "hudson_lynx_hare-lotka_volterra": (0.1084053017, 3.093821333, 0.2380868458, -0.4634550971),
    "kidiq-kidscore_interaction": (4.760038181, 0.8499320285, 5.066331967, 5.979606221),
    "kidiq-kidscore_momhs": (-0.8489395862, -0.2211294764, -0.1733572255, -0.4281712935),
    "kidiq-kidscore_momhsiq": (2.815177628, 4.155725756, 4.423586094, 2.347676115),
    "kidiq-kidscore_momiq": (-1.40255582, -0.4010226292, -0.5217092342, 0.5661135101),
    "kidiq_with_mom_work-kidscore_interaction_c": (1.395002458, -0.6272563859, 0.9056266252, 1.54160323),
    "kidiq_with_mom_work-kidscore_interaction_c2": (-0.6359146218, 0.7350861915, 0.5486410628, 1.954366472),
    "kidiq_with_mom_work-kidscore_interaction_z": (-1.507981882, -1.467858274, -1.227307665, -4.79258692),
    "kidiq_with_mom_work-kidscore_mom_work": (-0.1322294672, -1.434477877, 0.04348597833, 1.614469473),
    "mesquite-logmesquite": (-2.257275785, 0.687691725, -1.672742601, -1.980413439),
    "mesquite-logmesquite_logva": (0.4885105834, 0.1804633852, -2.446199567, -4.237144645),
    "mesquite-logmesquite_logvas": (3.486532607, 3.083176635, 1.182459629, 3.326592188),
    "mesquite-logmesquite_logvash": (-0.1259003838, 1.043331934, 0.3362651818, 1.90003693),
    "mesquite-logmesquite_logvolume": (0.695189464, 0.5117946274, -1.21077079, 1.042795428),
    "nes1972-nes": (3.392050508, 4.029509707, 5.847469985, 2.42345717),
    "nes1976-nes": (-3.262705577, -3.653987521, -3.389192148, -2.906851906),
    "nes1980-nes": (-3.102165905, -7.009057085, -0.9545189888, -2.316555191),
    "nes1984-nes": (3.133374597, 1.631626397, 1.502082165, 3.776322068),
    "nes1988-nes": (3.746076232, 2.843760967, 2.949580455, 0.9898034682),
    "nes1992-nes": (2.228411256, 5.191290718, 3.252912205, 2.48196606),
    "nes1996-nes": (1.8394266, -7.669549787, 1.798108652, -2.409855416),
    "one_comp_mm_elim_abs-one_comp_mm_elim_abs": (-1.47467798, -1.543251721, 0.04911163799, 0.3740998387),
    "sblri-blr": (-1.014034492, -4.232549966, -2.264581284, -1.280558903),
}
# Stan takes the Cholesky factor of a matrix with eigenvalues down to 1e-10 in another order, and solves
# Lotka-Volterra to a relative 1e-5 and an absolute 1e-3 only, which moves its log density by some 1e-4 nats;
# the drug's equation is solved to 2e-4 nats here.
TOLERANCE = {"gp_pois_regr": 1e-7, "lotka_volterra": 1e-3, "one_comp_mm_elim_abs": 1e-3}
# One posterior for each story.
EACH = (
    "arma-arma11",
    "bball_drive_event_1-hmm_drive_1",
    "earnings-logearn_interaction_z",
    "eight_schools-eight_schools_noncentered",
    "gp_pois_regr-gp_pois_regr",
    "hmm_example-hmm_example",
    "hudson_lynx_hare-lotka_volterra",
    "kidiq-kidscore_interaction",
    "one_comp_mm_elim_abs-one_comp_mm_elim_abs",
    "sblri-blr",
)


def sites(known):
    """The story's unknowns at the draws ``ROWS``; the database keeps what two of the stories make of them."""
    values = {name: draws[list(ROWS)] for name, draws in known.reference.items()}
    if "theta_trans" not in values and "tau" in values:
        effects = values.pop("theta") - values["mu"][:, None]
        values["theta_trans"] = effects / values["tau"][:, None]
    if "f" in values:
        squares = (known.args[0][:, None] - known.args[0]) ** 2
        kernel = (-squares / (2 * values["rho"][:, None, None] ** 2)).exp()
        cov = values["alpha"][:, None, None] ** 2 * kernel + 1e-10 * torch.eye(len(squares))
        lower = torch.linalg.cholesky(cov)
        values["f_tilde"] = torch.linalg.solve_triangular(lower, values.pop("f")[..., None], upper=False)[
            ..., 0
        ]
    return values


def joint(known, values):
    """Log joint density of the story, by plain Pyro."""
    with isolated(0), torch.no_grad():
        run = poutine.trace(poutine.condition(known.story, {**values, **known.data}))
        return float(run.get_trace(*known.args, **known.kwargs).log_prob_sum())


def test_every_posterior_of_the_database_has_a_story():
    assert set(posteriordb.names()) >= set(STAN)
    assert len(STAN) == 34
    with pytest.raises(ValueError, match="name: expected one of arma-arma11, .*got 'nes'"):
        posteriordb.load("nes")


@pytest.mark.parametrize("name", sorted(STAN))
def test_the_log_density_is_stans(name):
    known = posteriordb.load(name)
    values = sites(known)
    ours = [joint(known, {site: v[k] for site, v in values.items()}) for k in range(len(ROWS))]
    gap = numpy.array(ours[1:]) - ours[0] - numpy.array(STAN[name])
    assert numpy.abs(gap).max() < TOLERANCE.get(name.split("-")[-1], 1e-8)


@pytest.mark.parametrize("name", EACH)
def test_the_graph_serves_and_gives_the_quantities_of_the_reference(name):
    """Traced, with finite gradients at reference draws; constrained draws are the reference's, by name."""
    known = posteriordb.load(name)
    structure, observations = inspect_story(
        Call.bind(known.story, known.args, dict(known.kwargs)), as_observations(known.data)
    )
    density, values = LogDensity(structure, observations), sites(known)
    assert density.traced and not density.note and not density.flaw
    z = torch.empty(len(ROWS), density.size, dtype=torch.float64)
    for site, slot in density.slots.items():
        free = bijection(structure.sites[site].fn.support).inv
        z[:, slot.start : slot.stop] = torch.stack([free(v).reshape(-1) for v in values[site]])
    value, gradient = density.value_and_grad(z)
    assert bool(torch.isfinite(value).all()) and bool(torch.isfinite(gradient).all())
    found = known.quantities({site: v[None] for site, v in density.constrain(z).items()})
    for quantity, draws in known.reference.items():
        assert torch.allclose(found[quantity], draws[list(ROWS)], rtol=1e-6, atol=1e-6), quantity


def test_the_log_likelihood_of_lotka_volterra_is_that_of_the_exact_solution():
    """To 1e-3 nats at every one of a dozen reference draws; Stan's is not closer."""
    from scipy.integrate import solve_ivp

    known = posteriordb.load("hudson_lynx_hare-lotka_volterra")
    y = known.data["y"].log().numpy()
    for row in torch.linspace(0, 9999, 12).long():
        rates, start, sigma = (known.reference[n][row] for n in ("theta", "z_init", "sigma"))
        a, b, c, d = rates.tolist()

        def slope(t, z, a=a, b=b, c=c, d=d):
            return [a - b * numpy.exp(z[1]), d * numpy.exp(z[0]) - c]

        exact = solve_ivp(slope, (0, 20), start.log().numpy(), "DOP853", range(1, 21), rtol=1e-10, atol=1e-10)
        ours = posteriordb.found.part(posteriordb.stories, "lotka_volterra", "name").log_populations(
            rates, start, 20
        )
        squares = [((y - z) / sigma.numpy()) ** 2 for z in (ours.numpy(), exact.y.T)]
        assert abs(squares[0].sum() - squares[1].sum()) / 2 < 1e-3
