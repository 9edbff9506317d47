"""Modules that methods insert, and the places in an encoder where they go; needs torch."""
