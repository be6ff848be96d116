"""The engine that asks vLLM servers over HTTP and sends them weights by files or NCCL."""
