"""Sources: adapters that read event logs, and the envelopes in which logs hold events."""
