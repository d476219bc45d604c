"""Pyro's stochastic variational inference: guides by hand, networks, minibatches, any loss.

Read ``request`` first (what is asked for), then ``run`` (all restarts, and what was found), ``training`` (one
restart's loop), ``restart`` (story, guide and optimizer of its own), ``objective`` and ``losses`` (what is
descended), ``step`` and ``compiled_step`` (one step), ``optimizers`` and ``schedule`` (how far, and when to
stop), ``checkpoint`` (where to go on), ``minibatch`` and ``loaders`` (rows), ``held_out`` (rows that are
watched), ``conditioned``, ``target`` and ``autoguides`` (story and guide, made to match). Afterwards
``guide_draws`` weighs what the guide draws, or ``row_checks`` with ``overlooked`` checks row by row;
``elsewhere`` has them judge what was trained by others. It knows no posterior: ``inference.fitting`` makes
that of its result.

More than 20 files: training, what is trained on, and its checks, which share most of them.

May import: ``runtime`` to ``posterior``.
"""
