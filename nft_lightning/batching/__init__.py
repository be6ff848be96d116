"""Rollouts to optimizer batches: pure functions."""
