"""Language models that teach themselves mathematics from a right/wrong signal."""
