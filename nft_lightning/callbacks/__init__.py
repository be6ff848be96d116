"""Callbacks that only watch: without them the same training happens."""
