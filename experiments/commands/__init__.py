"""What ``ppl`` does: check, fit and show a story, run all experiments or one again, gather their reports."""
