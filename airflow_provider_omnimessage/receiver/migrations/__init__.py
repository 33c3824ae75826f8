"""Alembic's folder for the receiver's tables."""
