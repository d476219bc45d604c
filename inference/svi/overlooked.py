"""Does a guide overlook part of what rows' latent sites could be? Ask the prior.

Importance weights from a guide that covers one of two modes look perfect: no draw lies in the other. The
log of the mean weight is then too small, by log 2 if the modes are alike. Draws from the prior reach
everywhere; with few latent numbers enough of them are near, and their log mean weight is a lower bound in
expectation as well. Where it is clearly higher than the guide's, the guide overlooks something. Where it is
lower, nothing is said: the prior is then the worse proposal.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from inference.answers.result import Fit
from inference.answers.row_programs import Local, Programs
from inference.answers.row_proposal import log_mean
from inference.answers.row_questions import pose

ROWS = 60  # that are looked at
PRIOR_DRAWS = 2000  # of the prior for each
NUMBERS = 6  # latent numbers of a row beyond which draws from the prior say nothing
SHARE = 0.05  # of the rows that may look so by chance
_CLEAR = (4.0, 0.3)  # standard errors, and nats, by which the prior must find more


def overlooked(fit: Fit, local: Local, seed: int) -> str:
    """A sentence for the certificate where the prior finds clearly more than the guide; empty elsewhere.

    Args:
        fit: of the rows that were fitted.
        local: the trained programs; the guide of the restart that answers is checked.
        seed: of the draws.
    """
    bare = replace(local, restarts=tuple(Programs(one.story, None) for one in local.restarts))
    guided, open_ = pose(replace(fit, local=local), None, None), pose(replace(fit, local=bare), None, None)
    if guided is None or open_ is None or guided.guide is None or not open_.proposed or guided.filled:
        return ""
    sites, count = fit.structure.sites, guided.row_story.rows
    if sum(sites[n].value.numel() for n in open_.proposed) > NUMBERS * count:
        return ""
    rows = torch.randperm(count, generator=torch.Generator().manual_seed(1))[:ROWS].sort().values
    more, errors = [], []
    with guided.row_story.structure.call.room(seed), torch.no_grad():
        for block in rows.split(max(1, open_.row_story.chunk // PRIOR_DRAWS)):
            found = [
                log_mean(one.weigh(block, draws).log_w.double().cpu().logsumexp(0), 0)
                for one, draws in ((guided, guided.draws), (open_, PRIOR_DRAWS))
            ]
            more.append(found[1][0] - found[0][0])
            errors.append(torch.hypot(found[0][1], found[1][1]))
    gain, error = torch.cat(more), torch.cat(errors)
    clear = gain > torch.maximum(_CLEAR[0] * error, torch.tensor(_CLEAR[1]))
    share = float(clear.double().mean())
    if share <= SHARE:
        return ""
    return (
        f"Draws from the prior find more density than the guide's own in {share:.0%} of {len(gain)} rows, by "
        f"{float(gain[clear].median()):.2f} nats (median): the guide overlooks values of the latent sites, a "
        f"second mode perhaps. Give it a mixture of distributions, or one with wider tails."
    )
