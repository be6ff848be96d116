"""A local page over what a run answered."""
