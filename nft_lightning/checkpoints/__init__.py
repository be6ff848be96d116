"""Everything that makes a run resumable: checkpoint folders, what they hold, the lock of a run folder.

A resumed run continues exactly where the interrupted one would have.
"""
