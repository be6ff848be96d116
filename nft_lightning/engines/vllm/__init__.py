"""The engine that runs vLLM in the trainer's process; it receives weights in memory."""
