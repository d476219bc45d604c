"""A fit as ArviZ groups, on ArviZ 0.23 and 1.x.

Read ``collect`` first (what goes into each group), then ``build`` (named arrays to what ArviZ reads; it knows
neither torch nor Pyro), and ``rows`` (the same where all unknowns belong to rows).

May import: ``runtime`` to ``answers``. ArviZ, xarray and pandas are imported inside functions.
"""
