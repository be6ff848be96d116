"""The commands: compose, build, call."""
