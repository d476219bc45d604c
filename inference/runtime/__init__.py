"""What runs everything: settings that stay as they were, progress bars, work on several cores.

Read ``isolation`` first (random state, dtype, validation and Pyro's settings are put back), then
``progress``, ``workers`` and ``arguments``. Nothing here knows of stories or densities.

May import: nothing of ours.
"""
