"""Training: states, updates, the host loop, sweeps, results. Import its modules: `from rlcore.training import loop`."""
