"""The eight posteriors, written by hand for other libraries; priors exactly those of the Stan programs."""

# The Stan programs among the eight that are linear regressions with an intercept and flat coefficients.
REGRESSIONS = ("kidscore_interaction", "logearn_interaction_z", "logmesquite_logvash", "nes")
