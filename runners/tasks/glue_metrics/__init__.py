"""The evaluate module glue_metrics, kept in a folder of its name as evaluate.load expects."""
