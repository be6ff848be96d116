"""The server's side of a weight sync: what ``nft-serve`` adds to vLLM's workers.

Imported inside vLLM's worker processes, which ``--worker-extension-cls`` makes do so before the
model is loaded; nothing of the trainer is needed there.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor
from vllm.distributed.weight_transfer import WeightTransferEngineFactory
from vllm.distributed.weight_transfer.base import WeightTransferUpdateInfo

from nft_lightning.engines.vllm.names import BACKEND
from nft_lightning.engines.vllm.private_vllm import forget_weight_update
from nft_lightning.engines.vllm.transfer import LayerwiseTransfer


@dataclass
class File(WeightTransferUpdateInfo):
    """``path``: a safetensors file with some of the tensors, under their checkpoint names."""

    path: str


class FileTransfer(LayerwiseTransfer):
    """From files that trainer and server share."""

    update_info_cls = File

    def receive_weights(self, update_info: File) -> None:
        """Feed one file to the model's own loader."""
        if not Path(update_info.path).is_file():
            raise FileNotFoundError(f"{update_info.path} is not on this host")
        self.model.load_weights(load_file(update_info.path).items())


class ServedWorker:
    """Methods that vLLM mixes into its worker and that the trainer calls by ``/collective_rpc``."""

    def nft_prepare(self) -> dict[str, Any]:
        """Forget an update that a trainer left half done, and count what the next one writes.

        Returns:
            The backend in use, how many parameters there are, and the type that is computed in.
        """
        worker: Any = self
        model = worker.get_model()
        forget_weight_update(worker)
        # A layer's parameters are replaced while it is reloaded: their names are read before.
        worker.nft_names = {name for name, _ in model.named_parameters()}
        worker.nft_written = set()
        load = type(model).load_weights

        def counted(weights: Iterable[tuple[str, Tensor]], *args: Any, **options: Any) -> set[str]:
            written: set[str] = load(model, weights, *args, **options)
            worker.nft_written.update(written)
            return written

        model.load_weights = counted
        backend = worker.vllm_config.weight_transfer_config.backend
        dtype = str(worker.model_config.dtype).removeprefix("torch.")
        return {"backend": backend, "parameters": len(worker.nft_names), "dtype": dtype}

    def nft_unwritten(self) -> list[str]:
        """Return the parameters that nothing has been written to since :meth:`nft_prepare`."""
        worker: Any = self
        return sorted(worker.nft_names - worker.nft_written)


WeightTransferEngineFactory.register_engine(BACKEND, FileTransfer)
