"""Files of a run folder other than checkpoints: formats, engine_copies, readers, loggers and trackers.

A run folder explains itself: the config with secrets masked, metrics, and every rollout as a table.
"""
