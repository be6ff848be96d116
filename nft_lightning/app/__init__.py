"""One run: build the parts from a config, check them, assemble them, train, and show the screens.

The commands in ``cli`` call this room; the training loop does not know it.
"""
