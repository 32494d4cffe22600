"""Exports: concepts as data sets that other programs read; one module per format."""
