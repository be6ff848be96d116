"""Estimates with intervals: avg@k, pass@k, maj@k, paired differences and their correction.

Pure functions and one torchmetrics class; they know nothing of runs.
"""
