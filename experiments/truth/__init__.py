"""Data sets and known laws, one per file. Everything random is seeded.

- Densities in the plane, with labels: ``densities/``, found by file name; :mod:`~experiments.truth.law` is
  what they have in common, p(x) = sum_y p(y) p(x | y), and a torch distribution.
- Other laws with labels of that kind: :mod:`~experiments.truth.two_gaussians`, Gaussian classes of one
  :mod:`~experiments.truth.shared_covariance`, :mod:`~experiments.truth.skewed_classes`,
  :mod:`~experiments.truth.profiles` of sequences, :mod:`~experiments.truth.change_point` of counts.
- Laws that can be counted out: :mod:`~experiments.truth.bars_and_stripes`, :mod:`~experiments.truth.ising`.
- Laws with hidden causes: :mod:`~experiments.truth.factors`, :mod:`~experiments.truth.hidden_markov`,
  :mod:`~experiments.truth.volatility`; the posterior of :mod:`~experiments.truth.binomial_pixels`.
- Images: :mod:`~experiments.truth.digits`, made-up :mod:`~experiments.truth.glyphs`, and
  :mod:`~experiments.truth.mnist` for those who have its files.
- Real rows of two classes: :mod:`~experiments.truth.tables`.
- :mod:`~experiments.truth.posteriordb`: stories, data and reference draws of a database of posteriors.
"""
