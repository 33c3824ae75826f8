"""Thousands of messages in one task: where the rows come from, how they are checked, sent, remembered and cancelled."""
