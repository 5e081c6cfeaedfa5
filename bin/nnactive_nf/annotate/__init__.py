"""ANNOTATE: chosen patches get their labels."""
