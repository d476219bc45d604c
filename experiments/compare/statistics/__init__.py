"""The tests of :func:`experiments.compare.two_sample`, one per file, found by file name.

Each file defines ``compare(x, y, permutations, generator) -> Comparison`` for rows (n, d) and
(m, d) in float64.

What they see: share of repetitions (100; 50 where marked *) in which a 5 % test tells 500 rows of a
standard normal in ten dimensions from 500 others, with 99 relabellings. A share of .3 is known to
.05. The last three are no files of this folder: ``stein`` has the density in place of the
first sample.

    test                shift  tails  mode  narrow  correlation
    energy                .31    .99  1.00     .06          .06
    mmd                   .29   1.00  1.00     .06          .06
    sliced_wasserstein*   .28   1.00  1.00     .06          .06
    classifier            .10    .70   .34     .13          .07
    network*              .04    .14   .12     .08          .08
    stein                 .55    .28  1.00     .09          .10
    density*              .02    .36   .52     .00          .02
    coverage              .07    .30   .24     .03          .10

shift: one mean .15 off (KL .011); tails: Student's t of 5 degrees of freedom; mode: 10 % of the rows
5 away; narrow: one standard deviation 15 % smaller; correlation: .3 between two columns (KL .047).

The other way round, in two dimensions: 500 uniform rows against 500 on the black fields of a board of
4 by 4 are told apart by "classifier" in 40 of 40 pairs, by "sliced_wasserstein" in 8, "energy" in 4
and "mmd" in 1, which is its level.

So "not rejected" at 500 rows means little: report ``detectable``. No test is best: a shift wants
``stein`` (if the density is known), tails and modes "energy" or "mmd", fine shapes "classifier".
A correlation of .3, or one standard deviation of ten 15 % too small, goes unseen by all of them.
"""
