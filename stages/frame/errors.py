"""What a stage raises when a person must act."""


class StageError(Exception):
    """A stage cannot go on; one line says what is wrong, where, and what to do."""
