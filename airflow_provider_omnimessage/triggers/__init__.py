"""Triggers: what waits for delivery in the triggerer, and how all of them share one connection."""
