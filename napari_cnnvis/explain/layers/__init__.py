"""Maps from the activations and gradients of one layer."""
