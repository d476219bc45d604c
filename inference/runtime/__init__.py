"""What runs everything: settings that stay as they were, progress bars, work on several cores, files.

Read ``isolation`` first (random state, dtype, validation and Pyro's settings are put back), then
``progress``, ``workers``, ``arguments`` and ``files`` (written whole or not at all). Nothing here knows of
stories or densities.

May import: nothing of ours.
"""
