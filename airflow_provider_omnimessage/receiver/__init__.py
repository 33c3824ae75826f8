"""The receiver: takes in delivery reports and replies from Messente, stores them, and hands them to those who wait."""
