"""STOP: whether a trajectory goes on to its next labels, or ends here."""
