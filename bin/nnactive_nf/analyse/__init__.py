"""ANALYSE: from metrics, label masks and queries to tables and statistics."""
