"""The model as a function: loading, log-probabilities, adapters, the frozen reference, the critic."""
