"""Data sets and known laws, one per file. Everything random is seeded.

- ``densities/`` in the plane, with labels, found by file name; :mod:`~experiments.truth.law` is what they
  have in common with other laws, p(x) = sum_y p(y) p(x | y), and :mod:`~experiments.truth.mixture` one kind
  of them.
- ``images/``: real and made-up digits, and laws over small images that can be counted out.
- ``simulators/``: classes, sequences, counts and series whose parameters are known.
- ``posteriors/`` that are known and hard (:mod:`~experiments.truth.known_posterior`), found by file name,
  with :mod:`~experiments.truth.random_modes` and :mod:`~experiments.truth.several_modes`; the means are
  :mod:`~experiments.truth.quadrature`, :mod:`~experiments.truth.closed_form` and, for eight schools,
  :mod:`~experiments.truth.schools`.
- ``posteriordb/``: stories, data and reference draws of a database of posteriors; ``sbi/``: tasks of a
  benchmark (:mod:`~experiments.truth.benchmark_task`), found by file name.
- :mod:`~experiments.truth.tables`: real rows of two classes.
"""
