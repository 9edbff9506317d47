"""One run that can be done: what it is, and its name."""
