"""refine: heat maps + images -> refined maps."""
