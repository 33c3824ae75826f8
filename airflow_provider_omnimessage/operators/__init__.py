"""Tasks that send, schedule and cancel messages."""
