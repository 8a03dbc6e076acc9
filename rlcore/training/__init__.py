"""Training: states and updates, the host loop, sweeps and results. Import its modules (`from rlcore.training import loop`)."""
