"""How a story is called, looked at and conditioned: all that is known before a number is computed.

Read in this order: ``call`` (a story and its arguments), ``structure`` (its sites, plates and dependencies,
as data), ``inspection`` (the run in which they are read off, and data checked), ``observations`` (data by
site name, missing values), ``plan`` (what becomes of every site), ``handlers`` (Pyro's effect handlers that
condition a run), ``bijections`` (unconstrained space and its Jacobians), ``row_arguments`` (which arguments
belong to single rows). ``arguments`` (their names and copies), ``codes`` (negative numbers that index),
``provenance`` and ``support`` serve the inspection; ``joint`` (discrete sites whose rows hang together),
``separable`` (how that is found), ``followed`` and ``assignments`` serve the plan; ``construct``,
``programs`` and ``parameters`` serve stories and guides that are classes or hold networks.

May import: ``runtime``.
"""
