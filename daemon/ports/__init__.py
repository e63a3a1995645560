"""The ports: what the engine asks of a log, a store, a coordinator, a clock and an observer.

Protocols only, and the values that cross them. Adapters implement them; actors know nothing else.
"""
