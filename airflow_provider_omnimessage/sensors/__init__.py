"""Sensors: tasks that wait for delivery."""
