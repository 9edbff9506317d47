"""What every method must keep, as tests: python -m pytest --pyargs runners.contract."""
