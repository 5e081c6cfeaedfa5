#!/usr/bin/env python
"""Iterations per second of the workflow's trainer beside nnU-Net's stock `nnUNetTrainer`, and the ratio of the two.

Both train the same network by the same plans on the same whole labels, in one process, in turns of a few iterations
each, so that other work on the machine counts for both; the median of the turns. What differs: the workflow's trainer
has no smoothing term in its Dice loss, places its patches as queries need it, and lays its weights out channels last on
a CPU. On a CPU neither has processes that make batches.

    bench/iterations.py                          a small network on the phantom, on the CPU
    bench/iterations.py --device cuda --planned  the network that nnU-Net plans, on a GPU
"""

import os
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "bin"), str(ROOT / "tests")]

from plan import make_row, write_plan  # noqa: E402
from small_network import data_and_network, training_parser  # noqa: E402

from nnactive_nf.core.nnunet import nnunet_folders, resolve_device  # noqa: E402
from nnactive_nf.core.training_plans import training_plans  # noqa: E402
from nnactive_nf.forecast.plan import read_plan  # noqa: E402
from nnactive_nf.measure.few import prepare_few  # noqa: E402
from nnactive_nf.measure.steps import batches_ahead  # noqa: E402
from nnactive_nf.train.data import write_training_folder  # noqa: E402
from nnactive_nf.train.trainer import ActiveTrainer, Schedule  # noqa: E402

WARM_UP = 3


def stock_trainer(plans, dataset, device, folder, cases):
    """nnU-Net's own trainer on the same files; it writes nothing."""
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    class Stock(nnUNetTrainer):
        def print_to_log_file(self, *_, **__):
            pass

        def do_split(self):
            return cases[1:], cases[:1]

    trainer = Stock(dict(plans, continue_training=False), dataset.configuration, 0, dataset.nnunet_json, device)
    trainer.preprocessed_dataset_folder = str(folder)
    trainer.initialize()
    trainer.set_deep_supervision_enabled(trainer.enable_deep_supervision)
    trainer.dataloader_train, trainer.dataloader_val = trainer.get_dataloaders()
    return trainer


def close(*loaders):
    for loader in loaders:
        if hasattr(loader, "_finish"):
            loader._finish()


def timed(trainer, iterations):
    begin = time.perf_counter()
    for _ in range(iterations):
        float(trainer.train_step(next(trainer.dataloader_train))["loss"])
    return (time.perf_counter() - begin) / iterations


def main():
    parser = training_parser(__doc__)
    parser.add_argument("--turns", type=int, default=8)
    parser.add_argument("--iterations", type=int, default=5, help="of a turn")
    options = parser.parse_args()
    device = resolve_device(options.device, options.threads)
    with tempfile.TemporaryDirectory() as name, nnunet_folders():
        folder = Path(name)
        raw, network = data_and_network(options, folder)
        row = read_plan(write_plan(folder / "plan.json", [make_row("random", folder=str(raw), **network)]))[0].row
        few = prepare_few(row, raw, folder)
        # Not before: nnU-Net's planner takes as many threads
        os.environ |= {"nnUNet_compile": "f"} | ({"nnUNet_n_proc_DA": "0"} if options.device == "cpu" else {})
        patch = (16, 32, 32) if network else None
        plans = training_plans(few.dataset.plans, row.configuration, patch, row.features, row.batch_size)
        training = folder / "training"
        training.mkdir()
        size = tuple(plans["configurations"][row.configuration]["patch_size"])
        write_training_folder(training, few.dataset, few.labels, size)
        cases = sorted(few.labels.masks)
        stock = stock_trainer(plans, few.dataset, device, training, cases)
        ours = ActiveTrainer(
            dict(plans, continue_training=False), row.configuration, 0, few.dataset.nnunet_json, device
        )
        ours.set_up(training, cases[1:], cases[:1], Schedule(1, 250, "sgd", 0.01), 0, 0)
        with ours.loaders():
            try:
                both = {"the workflow's": ours, "stock nnUNetTrainer": stock}
                for trainer in both.values():
                    trainer.network.train()
                    timed(trainer, WARM_UP + batches_ahead(trainer.dataloader_train)[1])
                turns = {kind: [] for kind in both}
                for _ in range(options.turns):
                    for kind, trainer in both.items():
                        turns[kind].append(timed(trainer, options.iterations))
            finally:
                close(stock.dataloader_train, stock.dataloader_val)
    print(f"{device.type}, patch {size}, batch {ours.batch_size}: medians of {options.turns} turns")
    speeds = {kind: 1 / median(seconds) for kind, seconds in turns.items()}
    for kind, speed in speeds.items():
        print(f"{kind:22}{speed:8.2f} iterations a second")
    ours_a_second, stock_a_second = speeds.values()
    print(f"{'ratio':22}{ours_a_second / stock_a_second:8.2f}")


if __name__ == "__main__":
    main()
