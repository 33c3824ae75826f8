"""What every task that sends shares: memory across tries, posting, failures, arguments and templates."""
