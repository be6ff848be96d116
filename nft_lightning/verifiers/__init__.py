"""Who judges completions."""
