"""The verifier of reasoning-gym's problems, which asks the library's own scorers."""
