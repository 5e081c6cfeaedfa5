"""Active learning for 3D biomedical segmentation: the work behind the workflow's stages.

`core` holds what several stages share; every other folder is one stage and imports `core` and libraries only.
"""

__version__ = "0.1.0"
