"""MEASURE: the preflight's short training, of a few cases and a few iterations. It is PREPARE and TRAIN in small."""
