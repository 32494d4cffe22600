"""Image files to pixels: decoding, resizing, and reading many at once."""
