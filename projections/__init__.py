"""Read models: one worked example per style, and the demonstration's own. They import `daemon.api` only."""
