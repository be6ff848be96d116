"""Searches: Optuna studies whose trials are training runs, each in a process of its own."""
