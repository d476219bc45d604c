"""Questions to a fit: sample, probabilities and log_prob, for the fitted rows and for new ones.

Read ``result`` first (what is known after a fit), then ``verbs`` (which way a question goes), ``question``,
``questions`` and ``predictive`` (answers from the draws of what rows share), ``completion`` (draws of what a
density leaves out). Where all unknowns belong to rows, answers come row by row: ``row_story`` (a story on any
rows), ``row_programs`` (trained programs), ``row_proposal`` (weighted draws of rows' latent sites),
``row_draws`` and ``row_questions``.

May import: ``runtime`` to ``checks``.
"""
