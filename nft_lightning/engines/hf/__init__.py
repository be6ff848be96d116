"""The engine that generates with the transformers model of the trainer's own process."""
