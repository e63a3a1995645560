"""The pure heart of the daemon: what to fold, what to commit, what to do about each outcome.

Nothing here is async, reads a clock, draws a random number, logs, or imports a third party: time and randomness are
arguments, decisions are values. That is what lets one seed replay a whole history of disasters.
"""
