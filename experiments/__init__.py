"""The papers' compositions, the commands that run them, and the benchmarks."""
