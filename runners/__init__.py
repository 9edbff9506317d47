"""From a configuration to a record: task data, models, metrics, the one training loop, the run."""
