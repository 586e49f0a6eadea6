"""Benchmarks of what the models claim."""
