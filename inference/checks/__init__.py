"""Is it to be believed? Weights, other modes, the gradient, the tails; then a certificate with its reasons.

Read ``psis`` first (Pareto smoothed weights and k-hat), then ``importance`` (a guide's draws, weighed),
``adaptive_proposal`` (a better proposal from weighted draws), ``modes`` (what no draw has reached), ``stein``
(the gradient at the draws), ``holes`` (where the density is NaN), ``tails`` (who carries the spread),
``tail_mass`` (where chains hardly go), ``even_places`` (how much mass lies on either side),
``independence`` (of draws from elsewhere). ``certificate`` is data only; ``verdict`` writes it.

May import: ``runtime`` to ``hmc``.
"""
