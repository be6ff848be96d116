"""Searches: Optuna studies whose trials are training runs in processes of their own."""
