"""CHECK: all that can be told of a data set and the settings for it without a voxel being read."""
