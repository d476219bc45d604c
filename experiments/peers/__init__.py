"""Other libraries on the same posteriors: how long they take, and whether they are right.

- :mod:`~experiments.peers.posed`: the eight posteriors of posteriordb that all of them fit;
- ``models/``: those eight, written by hand in NumPyro and in PyMC;
- ``fits/``: one library with one method per file, this project's ``fit`` among them, all with the same verb
  ``run(name, draws, seed)``, found by file name;
- :mod:`~experiments.peers.fresh`: runs one of them in a process of its own, so that its first fit is a first
  one, and hands back a :class:`~experiments.peers.timing.TimedFit`.

The libraries are the extra ``peers``: ``pip install -e '.[peers]'``. They are imported inside functions only.
"""
