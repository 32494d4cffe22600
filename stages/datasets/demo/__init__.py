"""The embedded default data set: procedural scenes with exact part masks.

Nothing is downloaded: every picture is computed from a kind, a seed and a size.
"""
