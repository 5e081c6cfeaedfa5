"""What benchmarks of trainings share: their options, the data, and a network that a CPU trains in seconds."""

import argparse
from pathlib import Path

from nnactive_nf.phantom.folder import write_phantom

SMALL = {"train_patch_size": "16,32,32", "features": 8, "batch_size": 2}


def training_parser(description):
    """A parser of the options that say what is trained, and on what."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--input", type=Path, help="raw folder; the phantom where not given")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--planned", action="store_true", help="the network that nnU-Net plans, not a small one")
    return parser


def data_and_network(options, folder):
    """The raw folder, made in `folder` where none is given, and the parameters that make the network small."""
    if options.input is None:
        write_phantom(folder / "phantom", seed=1, cases=12)
    return options.input or folder / "phantom", {} if options.planned else SMALL
