"""report: everything -> a static page that opens from disk, with no network."""
