"""What trainer and server call things; importable without vLLM."""

BACKEND = "nft_lightning_files"
WORKER = "nft_lightning.engines.vllm.worker.ServedWorker"
GUARD = "nft_lightning.engines.vllm.guard.require_key"
