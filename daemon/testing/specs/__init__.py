"""Specifications of projections: events given, rows expected, and every way in which a log is really delivered.

spec      what users write: `spec(Board).given(...).then(...)`
telling   events as a test writes them, decoded as the daemon decodes them
running   the real engine over memory, on a loop whose time is virtual
variants  in which other ways the same events are delivered, and what it means when that changes anything
outcome   what a run leaves behind, and where two differ
watching  what handlers reach for while they run
state     what handlers must leave alone: events, their object, their module
words     how a failure is told
register  what the pytest plugin and specifications know of each other
"""
