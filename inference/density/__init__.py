"""A story and its data as one function: the log density of an unconstrained vector, for many draws at once.

Read ``log_density`` first, then ``evaluation`` (plain Pyro at one point, the yardstick), ``traced`` (the
compiled function, compared with it), ``sufficient_statistics`` (rows folded into sums), ``enumeration``
and ``log_einsum`` (discrete sites summed out). ``problems`` and ``stacked`` put restarts and data sets into
one batch; ``prior_starts`` draws points where it is finite, ``holes`` remembers those at which it is NaN;
``inverse`` leads from sites' values back to the vector.

May import: ``runtime``, ``story``, ``compiler``.
"""
