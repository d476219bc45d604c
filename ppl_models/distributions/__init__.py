"""The few distributions that Pyro lacks, or that need mending, one per file."""
