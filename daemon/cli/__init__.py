"""The command line: `projectiond run`, `check`, `init` and `demo`.

Owns what a person or a script sees: arguments, tables, JSON documents, messages and exit codes. Must not decide
anything about events, shards or stores; it calls `daemon.app` and tells what came of it.

    main           the application, its options and its help
    run            run the daemon
    check          settings and projections, without starting
    init           what is missing, shown first, then made
    demo           the demonstration, and its report
    survey         what the store holds already
    loading        the settings file found, and all of its and the projections' problems at once
    output         documents for scripts, tables and lines for people
    failures       errors as one message and an exit code
    exit_codes     the table of exit codes

Invariants: results go to stdout, everything else to stderr; with `--json`, stdout holds exactly one JSON document,
whatever happens; an error of our tree never shows a traceback.
"""
