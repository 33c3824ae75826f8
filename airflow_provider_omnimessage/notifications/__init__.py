"""Notifiers, for the callbacks of tasks, DAGs, deadlines and people who are asked."""
