"""Control: the socket that a running daemon listens on, and the engine behind it.

Owns how commands arrive, who may give them, and how each is answered. Must not know stores' or sources' insides, nor
actors: the composition root hands in what it needs.

    frames         the form of requests and answers; docs/reference/control.md is about it
    requests       the commands' arguments, and the right that each needs
    place          the socket's path, directory, lock and file
    peers          who is at the other end, and what he may do
    limits, lines, outbox   how much a client may take up
    server, connection      accepting, reading, answering
    serving, routes         from a request to whoever carries it out, and errors into refusals
    encoding       values as plain JSON
    client         the other end
    engine         the commands carried out
    waiting        until a position or an event is settled
"""
