"""One library, with one of its methods, per file; found by file name.

Each file has

- ``TITLE``, what tables call it;
- ``NEEDS``, the packages it imports, inside functions; :func:`run` loads them before the clock starts;
- ``run(name, draws, seed)``: fit one posterior twice, ``draws`` of each of four chains, and return a
  :class:`~experiments.peers.timing.TimedFit`. It may set what is global to its library: it runs in a
  process of its own.
"""
