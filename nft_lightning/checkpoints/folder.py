"""A checkpoint is a folder that is there whole or not at all.

``model.safetensors`` holds the weights, ``state.pt`` all else (read with ``weights_only=True``), and
``manifest.json``, written last, the size and checksum of both. Everything is written under another
name, flushed, and renamed.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import CheckpointIO
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from nft_lightning.errors import RunStoppedError, first_line

WEIGHTS, STATE, MANIFEST = "model.safetensors", "state.pt", "manifest.json"
PARTIAL, DAMAGED = ".partial-", "damaged-"
FORMAT = 1


class DamagedCheckpointError(RunStoppedError):
    """A checkpoint that cannot be used; the message says why."""


def name_of(epochs: int, updates: int | None) -> str:
    """After ``epochs`` epochs, and ``updates`` of the next where its rollout is made."""
    return f"epoch_{epochs:05d}" + ("" if updates is None else f"_update_{updates:04d}")


def write_checkpoint(folder: Path, checkpoint: Mapping[str, Any], about: Mapping[str, Any]) -> int:
    """Write ``folder`` in one piece; returns its bytes. ``about`` goes into the manifest.

    Raises:
        OSError: it could not be written; nothing of it is left.
    """
    partial = folder.parent / (PARTIAL + folder.name)
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        rest = dict(checkpoint)
        unique, aliases = without_aliases(rest.pop("state_dict"))
        save_file(unique, partial / WEIGHTS)
        torch.save(rest, partial / STATE)
        files = {name: [*measure(partial / name)] for name in (WEIGHTS, STATE)}
        manifest = {**about, "format": FORMAT, "aliases": aliases, "files": files}
        (partial / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")
        for name in (*files, MANIFEST, "."):
            flush(partial / name)
        if folder.exists():
            set_aside(folder)
        partial.rename(folder)
        flush(folder.parent)
    except (OSError, RuntimeError, SafetensorError) as error:
        # torch and safetensors have errors of their own for a full disk.
        shutil.rmtree(partial, ignore_errors=True)
        reason = getattr(error, "strerror", None) or first_line(error)
        raise OSError(f"{folder} could not be written ({reason})") from error
    return sum(size for size, _ in files.values())


def without_aliases(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return tensors that share no memory, as safetensors wants them, and which other names they go
    by.
    """
    first: dict[Any, str] = {}
    unique: dict[str, Tensor] = {}
    aliases: dict[str, str] = {}
    for name, tensor in state.items():
        place = (tensor.device, tensor.data_ptr(), tensor.shape, tensor.dtype)
        if tensor.numel() and place in first:
            aliases[name] = first[place]
        else:
            first[place] = name
            unique[name] = tensor.detach().contiguous()
    return unique, aliases


def measure(path: Path) -> tuple[int, int]:
    """Return size and CRC-32."""
    size = checksum = 0
    with open(path, "rb") as file:
        while chunk := file.read(2**22):
            size, checksum = size + len(chunk), zlib.crc32(chunk, checksum)
    return size, checksum


def flush(path: Path) -> None:
    """Make sure that a file or folder survives a power failure."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest.

    Raises:
        DamagedCheckpointError: there is none that can be used, or a file is not as long as it says.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        sizes = {name: size for name, (size, _) in manifest["files"].items()}
        lengths = {name: (folder / name).stat().st_size for name in (WEIGHTS, STATE)}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedCheckpointError(f"{folder} is incomplete ({error})") from error
    if manifest.get("format") != FORMAT:
        raise DamagedCheckpointError(f"{folder} has format {manifest.get('format')}, not {FORMAT}")
    for name, size in lengths.items():
        if size != sizes.get(name):
            raise DamagedCheckpointError(
                f"{folder / name} has {size} bytes where {sizes.get(name)} were written"
            )
    return dict(manifest)


def read_checkpoint(folder: Path) -> dict[str, Any]:
    """Return what was written, on the CPU; nothing is unpickled but tensors and plain data.

    Raises:
        DamagedCheckpointError: a file is missing, changed, or holds anything else.
    """
    manifest = verify(folder)
    try:
        checkpoint = torch.load(folder / STATE, map_location="cpu", weights_only=True)
        weights = load_file(folder / WEIGHTS)
        weights.update({name: weights[other] for name, other in manifest["aliases"].items()})
    except Exception as error:
        reason = first_line(error)
        raise DamagedCheckpointError(f"{folder} cannot be read ({reason})") from error
    return {**checkpoint, "state_dict": weights}


def read_weights(folder: Path) -> dict[str, Tensor]:
    """Return the weights only, aliases included, on the CPU.

    Raises:
        DamagedCheckpointError: a file is missing, or the weights are not as they were written.
    """
    manifest = read_manifest(folder)
    if [*measure(folder / WEIGHTS)] != manifest["files"][WEIGHTS]:
        raise DamagedCheckpointError(f"{folder / WEIGHTS} is not as it was written (checksum)")
    try:
        weights = load_file(folder / WEIGHTS)
        weights.update({name: weights[other] for name, other in manifest["aliases"].items()})
    except (OSError, KeyError, SafetensorError) as error:
        raise DamagedCheckpointError(f"{folder} cannot be read ({error})") from error
    return weights


def verify(folder: Path) -> dict[str, Any]:
    """Return the manifest of a checkpoint whose files are as they were written; else
    DamagedCheckpointError.
    """
    manifest = read_manifest(folder)
    for name in (WEIGHTS, STATE):
        if [*measure(folder / name)] != manifest["files"][name]:
            raise DamagedCheckpointError(f"{folder / name} is not as it was written (checksum)")
    return manifest


def set_aside(folder: Path) -> Path:
    """Keep a damaged checkpoint under a name that nobody resumes from; returns it."""
    aside = folder.with_name(DAMAGED + folder.name)
    shutil.rmtree(aside, ignore_errors=True)
    folder.rename(aside)
    return aside


def checkpoints(parent: Path) -> list[Path]:
    """Return the folders that look like checkpoints, oldest first; half-written ones have another
    name.
    """
    return sorted(p for p in parent.glob("epoch_*") if p.is_dir()) if parent.is_dir() else []


def complete(parent: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield those of :func:`checkpoints` that have a good manifest, with it."""
    for folder in checkpoints(parent):
        with contextlib.suppress(DamagedCheckpointError):
            yield folder, read_manifest(folder)


def point(link: Path, folder: Path) -> None:
    """Let the symbolic link ``link`` name its neighbour ``folder``, in one step."""
    partial = link.parent / (PARTIAL + link.name)
    partial.unlink(missing_ok=True)
    partial.symlink_to(folder.name)
    partial.replace(link)


class CheckpointFolder(CheckpointIO):
    """Lightning's way to this format: ``Trainer(plugins=[CheckpointFolder()])``."""

    def __init__(self) -> None:
        self.last_bytes = 0

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None
    ) -> None:
        """Write; ``storage_options`` goes into the manifest."""
        self.last_bytes = write_checkpoint(Path(path), checkpoint, storage_options or {})

    def load_checkpoint(
        self, path: Any, map_location: Any | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read; always as with ``weights_only=True``."""
        return read_checkpoint(Path(path))

    def remove_checkpoint(self, path: Any) -> None:
        """Rename first: what is half removed looks like no checkpoint. Nothing happens without one."""
        folder = Path(path)
        if not folder.exists():
            return
        doomed = folder.parent / (PARTIAL + folder.name)
        shutil.rmtree(doomed, ignore_errors=True)
        folder.rename(doomed)
        shutil.rmtree(doomed, ignore_errors=True)
