"""The mathematics: arrays in, arrays out; nothing of stages, files or progress."""
