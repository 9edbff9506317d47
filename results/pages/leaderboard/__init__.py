"""A board's leaderboard: rows by rank, differences to a chosen row, scores beside costs."""
