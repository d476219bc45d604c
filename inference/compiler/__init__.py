"""The tape: one recorded run of a function, made into a batched Python function of many points.

Read ``tape`` first (operations as data), then ``recording`` (how it is written), ``in_place`` with
``written_memory`` (what becomes of writes in place), ``operations`` (what is known of each), ``simplify``
with ``algebra``, ``sums`` and ``regressions`` (how it is shortened), ``any_size`` (any number of points),
``codegen`` (the Python function), and ``batched_function``, where all of it meets; ``zero_wins`` has the
derivatives at the edge. ``vmapped`` serves
questions, and functions that no tape can hold. Nothing here knows of stories.

May import: ``runtime``, ``story``.
"""
