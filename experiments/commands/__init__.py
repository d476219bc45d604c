"""What ``ppl check`` and ``ppl fit`` do with a story in a file."""
