"""PREFLIGHT: what a set-up promises is tried where the tasks run, one finding for each capability."""
