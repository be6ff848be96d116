"""Who writes completions."""
