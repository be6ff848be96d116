"""Small helpers that know nothing of language models: files written whole, tables, timing, float64."""
