"""index: find the images, check that each decodes, give them ids and sets."""
