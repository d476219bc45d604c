"""Simulators whose parameters are known, and with them what an estimate has to find.

Rows with labels, each a :class:`~experiments.truth.law.Law`:
:mod:`~experiments.truth.simulators.two_gaussians`, :mod:`~experiments.truth.simulators.shared_covariance`,
:mod:`~experiments.truth.simulators.skewed_classes`, :mod:`~experiments.truth.simulators.profiles` of
sequences, :mod:`~experiments.truth.simulators.change_point` of counts. Rows and series with hidden causes:
:mod:`~experiments.truth.simulators.factors`, :mod:`~experiments.truth.simulators.hidden_markov`,
:mod:`~experiments.truth.simulators.volatility`.
"""
