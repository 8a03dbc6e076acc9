"""Networks as pure functions of their parameters."""

from rlcore.models.decoder import DecoderConfig
from rlcore.models.decoder import make_decoder
from rlcore.models.decoder import stack_layers
from rlcore.models.decoder import unstack_layers

__all__ = ["DecoderConfig", "make_decoder", "stack_layers", "unstack_layers"]
