"""PREDICT: where the ensemble of a node is unsure, as maps over the images of one shard of the pool."""
