"""The built-in phantom data set: small 3D volumes with known labels, generated from a seed."""
