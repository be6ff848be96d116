"""Files of a run folder other than checkpoints: their formats, writers, readers, loggers and trackers.

A run folder explains itself: the config with secrets masked, metrics, and every rollout as a table.
"""
