"""The compiled loops of `stages.algorithms.mean_field` on a CPU: one call an image.

Signals of 16 columns lie side by side, pixel by pixel, and go through vector registers together
(`stages.algorithms.nmf.kernels.lanes`). A signal is ``2 q - 1``, which the filters, linear and
keeping constants, turn into ``2 F(q) - 1``; colours are counted from their middle. Both keep small
the numbers whose differences are taken, in float32.
"""
