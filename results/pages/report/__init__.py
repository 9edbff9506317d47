"""One run's page: its scores beside the baseline, curves, confusions, worst rows, cost, command."""
