"""What several stages need of nnU-Net: its folders, the device, networks from plans, and the fold checkpoints."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager

from nnactive_nf.core.errors import UserError, one_line
from nnactive_nf.core.files import check_regular, whole_file
from nnactive_nf.core.gpu_lease import give_back, lease_gpu
from nnactive_nf.core.plans import check_nnunet_json, check_plans, heads_of, label_order

if TYPE_CHECKING:
    from nnactive_nf.core.trainer_file import TrainerFile

CHECKPOINT_FORMAT = "nnactive-nf/checkpoint"
CHECKPOINT_VERSION = 1
_FOLDERS = {"nnUNet_raw": "raw", "nnUNet_preprocessed": "preprocessed", "nnUNet_results": "results"}


@contextlib.contextmanager
def nnunet_folders() -> Iterator[Path]:
    """Give nnU-Net folders of its own; it finds them by environment variables. They are gone when the block ends."""
    before = {name: os.environ.get(name) for name in _FOLDERS}
    with tempfile.TemporaryDirectory(prefix="nnunet-") as folder:
        os.environ |= {name: str(Path(folder) / part) for name, part in _FOLDERS.items()}
        try:
            yield Path(folder)
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value


def resolve_device(device: str, threads: int) -> torch.device:
    """The device for `auto`, `cuda` or `cpu`; sets the number of CPU threads, on which results depend to the bit.

    Where tasks share this machine's GPUs, it waits for one (`core/gpu_lease.py`): CUDA must not have been asked before.

    Raises:
        UserError: a GPU is asked for and none is seen.
    """
    torch.set_num_threads(threads)
    if device != "cpu":
        lease_gpu()
    seen = torch.cuda.is_available()
    if not seen:
        give_back()
    if device == "cuda" and not seen:
        raise UserError("device cuda: torch sees no GPU here; use --device auto or cpu, or check the driver")
    return torch.device("cuda" if seen and device != "cpu" else "cpu")


def build_network(
    configuration: ConfigurationManager, channels: int, heads: int, deep_supervision: bool
) -> torch.nn.Module:
    """The planned network with fresh weights; on torch's device `meta` they have shapes and no numbers."""
    network: torch.nn.Module = get_network_from_plans(
        configuration.network_arch_class_name,
        configuration.network_arch_init_kwargs,
        configuration.network_arch_init_kwargs_req_import,
        channels,
        heads,
        allow_init=torch.get_default_device().type != "meta",  # to draw none there, torch would import its compiler
        deep_supervision=deep_supervision,
    )
    return network


@dataclass(frozen=True)
class FoldCheckpoint:
    """A finished fold: weights and all that is needed to predict with them.

    Attributes:
        weights: the network's state.
        plans: nnU-Net's plans as trained (patch size and width may differ from the data set's plans).
        configuration: name of the configuration in the plans.
        nnunet_json: nnU-Net's `dataset.json`.
        mirror_axes: spatial axes along which the training mirrored.
        digest: digest of what the training rests on; names the checkpoint in uncertainty files.
        network_by: SHA-256 of the trainer file whose own network this is; '' for the planned one.
    """

    weights: dict[str, torch.Tensor]
    plans: dict[str, Any]
    configuration: str
    nnunet_json: dict[str, Any]
    mirror_axes: tuple[int, ...]
    digest: str
    network_by: str = ""

    @property
    def trained_with(self) -> tuple[Any, ...]:
        """What the folds of an ensemble are alike in, see `alike_in`."""
        return alike_in(self.plans, self.configuration, self.nnunet_json, self.network_by)


def alike_in(
    plans: Mapping[str, Any], configuration: str, nnunet_json: Mapping[str, Any], network_by: str
) -> tuple[Any, ...]:
    """Plans, configuration, `dataset.json` with the order of its regions, and the network's file."""
    return plans, configuration, nnunet_json, label_order(nnunet_json), network_by


def stored_fold(store: Path, digest: str) -> Path:
    """Folder of a finished fold in the checkpoint store, with `checkpoint.pth` and `training.json`."""
    return store / digest[:2] / digest / "finished"


def save_fold(path: Path, checkpoint: FoldCheckpoint) -> None:
    """Write a fold's checkpoint, whole or not at all."""
    content = {
        "format": CHECKPOINT_FORMAT,
        "version": CHECKPOINT_VERSION,
        "weights": {name: value.cpu() for name, value in checkpoint.weights.items()},
        "plans": json.dumps(checkpoint.plans),
        "configuration": checkpoint.configuration,
        "nnunet_json": json.dumps(checkpoint.nnunet_json),
        "mirror_axes": list(checkpoint.mirror_axes),
        "digest": checkpoint.digest,
    }
    if checkpoint.network_by:
        content["network_by"] = checkpoint.network_by
    save_torch(path, content)


def save_torch(path: Path, content: dict[str, Any]) -> None:
    """Write a dictionary of tensors and plain values, whole or not at all."""
    # Torch's own files do not tell why they cannot be written.
    with whole_file(path) as temporary, temporary.open("wb") as file:
        torch.save(content, file)


def load_fold(path: Path, trainer: TrainerFile | None = None) -> FoldCheckpoint:
    """Read a fold's checkpoint to the CPU.

    Args:
        path: the file.
        trainer: the user's trainer, which builds the network where the fold was trained with one of its own.

    Raises:
        UserError: it is missing, truncated or foreign, its plans name what is no network (`nnactive_nf.core.plans`), or
            its weights are not those of its network, or not finite.
    """
    content = load_torch(path)
    if content.get("format") != CHECKPOINT_FORMAT or content.get("version") != CHECKPOINT_VERSION:
        raise UserError(f"{path}: not a checkpoint of format {CHECKPOINT_FORMAT} {CHECKPOINT_VERSION}")
    try:
        fold = FoldCheckpoint(
            weights=dict(content["weights"]),
            plans=json.loads(content["plans"]),
            configuration=str(content["configuration"]),
            nnunet_json=json.loads(content["nnunet_json"]),
            mirror_axes=tuple(content["mirror_axes"]),
            digest=str(content["digest"]),
            network_by=str(content.get("network_by", "")),
        )
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: damaged checkpoint ({type(error).__name__}: {error})") from None
    check_plans(fold.plans, str(path), fold.configuration)
    check_nnunet_json(fold.nnunet_json, str(path))
    if fold.network_by and trainer is None:
        raise UserError(f"{path}: its network is a trainer file's own; give that file with --trainer-file")
    if trainer is not None and fold.network_by not in ("", trainer.digest):
        raise UserError(f"{path}: its network is that of another trainer file than {trainer.where}, or of an older one")
    _check_weights(path, fold, trainer)
    return fold


def network_of(fold: FoldCheckpoint, trainer: TrainerFile | None) -> torch.nn.Module:
    """The network that a fold predicts with: the planned one, or the trainer's own. Its weights are fresh."""
    plans = PlansManager(fold.plans)
    configuration = plans.get_configuration(fold.configuration)
    channels, heads = len(fold.nnunet_json["channel_names"]), heads_of(fold.nnunet_json)
    if fold.network_by and trainer is not None:
        return trainer.network(plans, configuration, channels, heads)
    return build_network(configuration, channels, heads, False)


def _check_weights(path: Path, fold: FoldCheckpoint, trainer: TrainerFile | None) -> None:
    """Hold weights against the network; the planned one is built with shapes and without numbers."""
    configuration = PlansManager(fold.plans).get_configuration(fold.configuration)
    try:
        with torch.device("cpu" if fold.network_by else "meta"):  # not all that users write is built without numbers
            expected = network_of(fold, trainer).state_dict()
    except UserError:
        raise
    except Exception as error:  # whatever networks say of arguments that they do not take
        raise UserError(f"{path}: its plans make no network ({type(error).__name__}: {error})") from None
    found = {name: tuple(getattr(value, "shape", ())) for name, value in fold.weights.items()}
    if found != {name: tuple(value.shape) for name, value in expected.items()}:
        of = f"of {trainer.where}" if fold.network_by and trainer is not None else "in its plans"
        raise UserError(f"{path}: its weights are not those of the network {of}")
    if not all(bool(torch.isfinite(value).all()) for value in fold.weights.values()):
        raise UserError(f"{path}: it holds weights that are not finite")
    if any(axis not in range(len(configuration.patch_size)) for axis in fold.mirror_axes):
        raise UserError(f"{path}: it mirrors along axes {fold.mirror_axes}, which its network does not have")


def load_torch(path: Path, stand_ins: Sequence[tuple[type, str]] = (), mapped: bool = False) -> dict[str, Any]:
    """Read a dictionary of tensors and plain values; nothing that a file brings along is executed.

    Checksums are looked at first, which torch writes and does not read.

    Args:
        path: the file.
        stand_ins: classes that are made in place of what a file names, each with the name that it stands for.
        mapped: leave tensors in the file until somebody looks at them.
    """
    check_regular(path)
    try:
        with zipfile.ZipFile(path) as archive:
            if (damaged := archive.testzip()) is not None:
                raise ValueError(f"the checksum of {damaged} is wrong")
        with torch.serialization.safe_globals(list(stand_ins)):
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except Exception as error:  # torch raises many kinds for files that are damaged
        raise UserError(
            f"{path}: cannot be read as a checkpoint, it may be truncated ({type(error).__name__}: {one_line(error)})"
        ) from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: not a checkpoint")
    return content
