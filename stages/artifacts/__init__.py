"""What stages publish, open for reading: one typed reader per kind of artifact."""
