"""What scripts that train many stories share: how a rate falls, and work in other processes.

- :mod:`~experiments.training.optimizers`: optimizers with their schedules, as ``fit(optim=...)`` takes
  them;
- :mod:`~experiments.training.pool`: the results of many tasks, from so many processes of one thread each;
- :mod:`~experiments.training.fresh`: what one fresh interpreter says last, for time and memory that no
  earlier work has touched.

It knows no script, no other room and no story: torch and the standard library are all it imports.
"""
