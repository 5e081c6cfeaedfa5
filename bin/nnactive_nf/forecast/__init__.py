"""FORECAST: what a plan would take, in tasks, on disk, in GPU memory and in time."""
