"""What is measured and tested on a machine with a GPU, and what carries it there."""
