"""Row scaling: do a hundred times as many rows cost a hundred times the time and memory, or more?

The script is ``__main__.py``; ``child`` makes one fit in a process of its own, ``slope`` lays a line
through seconds and rows.
"""
