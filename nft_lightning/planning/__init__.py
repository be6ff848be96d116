"""What a run would need and take, on paper."""
