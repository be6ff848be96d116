"""What a run leaves so that it can go on as if nothing had happened."""
