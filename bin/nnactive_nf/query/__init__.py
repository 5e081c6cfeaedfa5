"""QUERY: which patches to label next."""
