"""Calibration of posteriors over many simulated data sets (simulation-based calibration).

To be read in this order: ``simulated`` draws truths and their data, ``calibration`` fits them and ranks
every truth among its posterior's draws, ``tarp`` ranks all unknowns together by distance, ``ecdf_bands``
says whether ranks are uniform, ``result`` holds the answer and ``figure`` draws it. They import each other
and :mod:`experiments.compare.result`; the figure knows the house style, and nobody's class.
"""
