"""What trainer and server call things; importable without vLLM."""

BACKEND = "nft_lightning_files"
WORKER = "nft_lightning.engines.vllm_worker.ServedWorker"
GUARD = "nft_lightning.engines.vllm_guard.require_key"
