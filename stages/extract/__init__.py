"""extract: images -> activations of the tapped layers."""

from stages.extract.stage import EXTRACT, ExtractParams

__all__ = ["EXTRACT", "ExtractParams"]
