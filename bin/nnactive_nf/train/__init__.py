"""TRAIN: one nnU-Net on one fold of the labels known so far; a training is never lost."""
