"""Pure functions that turn a rollout into the optimizer batches of an epoch."""
