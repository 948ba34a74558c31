"""Measurements. `make bench` runs all of them; `python -m bench.NAME` one. docs/measurements.md keeps the figures."""
