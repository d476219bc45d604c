"""Hamiltonian Monte Carlo in batches: many short chains in whitened space, and long reference chains.

Read ``hamiltonian`` first (one transition of all chains), then ``adaptation`` (step size and metric),
``chain_record`` (what is kept of a run), ``convergence`` (R-hat and effective sizes), ``stop_rule`` (when it
is enough), and then ``short_chains`` (a rung of the ladder) or ``long_chains`` (the reference).

May import: ``runtime`` to ``guides``.
"""
