"""VIEWS: pictures of what a query chose."""
