"""The demonstration: a real event log folded into read models, and every row checked.

Owns what `projectiond demo` needs besides the daemon itself: `flights` reads the flights that left New York in 2013,
`log` writes them down as event logs with known duplicates, `runner` folds them by a daemon that it kills on the way
(`child` starts and ends it, `watch` reads what it committed, `place` owns the directory), `check` compares the read
models with the same flights, `report` says what was found, `tail` follows a daemon that is kept running.

This file imports nothing: `check` lives in this package, and must not load the daemon that it checks.
"""
