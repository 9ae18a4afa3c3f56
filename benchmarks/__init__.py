"""Measurements on seeded workloads, under permanent names. Results are not kept in git."""
