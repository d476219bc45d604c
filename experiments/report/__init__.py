"""What an experiment writes: a run folder, its claims, and one self-contained HTML page.

An experiment is a module with a docstring, whose first line is the question, and a function
``main(run)``. It may declare flags of its own in ``options(parser)``, and it ends with

.. code-block:: python

    if __name__ == "__main__":
        raise SystemExit(launch(__file__))
"""

from experiments.report.launch import launch
from experiments.report.run import Run
from experiments.report.style import style

__all__ = ["Run", "launch", "style"]
