"""The command line `projectionctl`: steering a running daemon over its socket.

Owns what a person or a script sees: arguments, tables, JSON documents, progress, messages and exit codes. Must not
decide anything: the daemon does, and says why.

    main           the application, its help and its exit codes
    options        the options that commands share, and what completes their words
    call           one request and its answers; what went wrong as a message and an exit code
    reading        status, shards, lag, top, tail, audit, explain
    changing       pause, resume, drain, restart, skip
    waiting        wait
    again          rewind, replay, dead-letters, keys: the words
    again_view     the same: what is shown, and asked first
    words          times, numbers and places as people read them

Invariants: results go to stdout, everything else to stderr; with `--json`, stdout holds one JSON document, or one a
line where a command goes on (`top`, `tail`, `--watch`); nothing is imported that a client does not need.
"""
