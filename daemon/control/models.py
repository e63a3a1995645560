"""Every command that is known, in the order of the reference: a later command is one more model here."""

from daemon.control.again_requests import AGAIN_MODELS
from daemon.control.requests import BASIC_MODELS, Arguments

MODELS: tuple[type[Arguments], ...] = (*BASIC_MODELS, *AGAIN_MODELS)
