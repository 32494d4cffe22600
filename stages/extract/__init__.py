"""extract: images -> activations of the tapped layers."""
