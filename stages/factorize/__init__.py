"""factorize: activations -> factors W and coefficients H."""
