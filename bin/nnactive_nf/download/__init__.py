"""DOWNLOAD: data sets of the Medical Segmentation Decathlon."""
