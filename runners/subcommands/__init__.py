"""What a command does whose first word is no KEY=VALUE."""
