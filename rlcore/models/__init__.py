"""Networks as pure functions of their parameters."""

from rlcore.models.attention import memory_window_mask
from rlcore.models.autoencoder import AutoEncoder
from rlcore.models.decoder import DecoderConfig
from rlcore.models.decoder import make_decoder
from rlcore.models.decoder import stack_layers
from rlcore.models.decoder import unstack_layers
from rlcore.models.flow import make_velocity_mlp
from rlcore.models.heads import init_value_head
from rlcore.models.heads import value_head
from rlcore.models.metacontroller import CodePolicy
from rlcore.models.metacontroller import ControlledGRU
from rlcore.models.metacontroller import GRU
from rlcore.models.metacontroller import Metacontroller
from rlcore.models.mlp import MLP
from rlcore.models.recurrent import GRUConfig
from rlcore.models.recurrent import GRUNetwork
from rlcore.models.recurrent import make_gru
from rlcore.models.recurrent import make_gru_network
from rlcore.models.residual import make_residual_hook
from rlcore.models.residual import ResidualHook

__all__ = (
    "AutoEncoder",
    "CodePolicy",
    "ControlledGRU",
    "DecoderConfig",
    "GRU",
    "GRUConfig",
    "GRUNetwork",
    "init_value_head",
    "make_decoder",
    "make_gru",
    "make_gru_network",
    "make_residual_hook",
    "make_velocity_mlp",
    "memory_window_mask",
    "Metacontroller",
    "MLP",
    "ResidualHook",
    "stack_layers",
    "unstack_layers",
    "value_head",
)
