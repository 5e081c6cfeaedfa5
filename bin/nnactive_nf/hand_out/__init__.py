"""HAND_OUT: the package of patches that people label in a viewer of their own."""
