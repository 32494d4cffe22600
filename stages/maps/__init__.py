"""Concept maps: coefficients brought to image space, written with masks and boxes."""
