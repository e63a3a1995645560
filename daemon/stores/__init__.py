"""Stores: where read models and the truth about their progress live. Each implements `daemon.ports.store`."""
