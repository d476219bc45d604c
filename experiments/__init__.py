"""One script per question, beside the rooms that serve them: truth, compare and report."""
