"""Names that people give factors: labels.yaml, and whose factors its names are now."""
