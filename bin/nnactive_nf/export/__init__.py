"""EXPORT: what a run has made, as other tools take it: nnU-Net's model folder, images on the files' own grids."""
