"""One script per question, beside six rooms: report, compare, truth, peers, training, commands.

A script that has helpers is ``__main__.py`` in a folder of its own, with them.
"""
