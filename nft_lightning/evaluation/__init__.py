"""A model on benchmark sets: answers once, kept, and numbers with intervals."""
