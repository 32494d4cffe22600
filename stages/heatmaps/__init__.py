"""heatmaps: coefficients -> heat maps in image space, and where masks begin."""
