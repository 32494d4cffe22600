"""Usual values of refinement, each said once: for functions called from a notebook and for params.

It imports nothing, so that params need not load what computes.
"""

# `stages.algorithms.mean_field`
ITERATIONS = 10
RADIUS = 0.0714  # of the guided filter, as a share of the long side
EPS = 1e-4
WEIGHT = 5.0
WORKING_SIDE = 64

# `stages.algorithms.bilateral`
COLOUR_WEIGHT = 10.0
COLOUR_SIGMA = 3.5
COLOUR_REACH = 0.15
COLOUR_CELLS = 32

# `stages.algorithms.dense_crf`
CRF_ITERATIONS = 10
GAUSSIAN_SXY = 3.0
GAUSSIAN_COMPAT = 3.0
BILATERAL_SXY = 30.0
BILATERAL_SRGB = 13.0
BILATERAL_COMPAT = 10.0

# Probabilities are kept this far from 0 and 1, so that no unary is infinite and beyond appeal.
PROBABILITY_FLOOR = 1e-4
