"""The commands: each composes its config and calls ``app`` or a tool."""
