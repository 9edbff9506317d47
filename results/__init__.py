"""Records of runs, and what reads them: python -m results prints the comparison tables."""
