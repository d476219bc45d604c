"""Images, and laws over images.

Of grey levels: :mod:`~experiments.truth.images.digits` (8 x 8, real) and the law of
:mod:`~experiments.truth.images.binomial_pixels` on them, :mod:`~experiments.truth.images.mnist` (28 x 28,
for those who have its files), :mod:`~experiments.truth.images.glyphs` (28 x 28, made up, from
:mod:`~experiments.truth.images.glyph_shapes`). Black and white, every image counted:
:mod:`~experiments.truth.images.binary_images`, of which :mod:`~experiments.truth.images.bars_and_stripes`
and :mod:`~experiments.truth.images.ising` are two.
"""
