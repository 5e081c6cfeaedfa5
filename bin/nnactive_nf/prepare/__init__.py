"""PREPARE: check a raw data set, split it, and let nnU-Net plan and preprocess it once."""
