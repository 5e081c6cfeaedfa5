"""EVALUATE: how good the ensemble of a node is on the test set, per case and class."""
