"""explain: what concepts mean to the network that they were found in."""
