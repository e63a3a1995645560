"""projectiond: a daemon that keeps CQRS read models true.

A projection imports `daemon.api` and nothing else from here. The layers, lowest first: `core` (pure), `ports` and
`wire`, the adapters beside each other, then `api`, `app`, `testing`, `demo` and `cli`; each imports only downward.
"""

__version__ = "0.1.0"
