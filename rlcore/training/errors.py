"""The errors a user can mend; the commands print them as one line."""


class RunError(Exception):
  """A run that cannot start or go on, for a reason the message names together with the mend."""


class NonFiniteError(RunError):
  """A run that met a non-finite quantity in too many updates in a row."""
