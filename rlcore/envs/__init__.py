"""Jittable worlds with gymnax's functional signature, one a file; see `rlcore.types.World`."""

__all__ = ()
