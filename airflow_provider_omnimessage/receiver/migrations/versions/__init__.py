"""The changes of the receiver's tables, oldest first."""
