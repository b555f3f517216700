"""The box that holds scan and network, which several panels have."""
