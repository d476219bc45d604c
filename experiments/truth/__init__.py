"""Data sets and known laws, one per file. Everything random is seeded."""
