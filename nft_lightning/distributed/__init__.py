"""Several ranks as one run: how they are started, how they meet, and how they check that they agree."""
