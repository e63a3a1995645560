"""The actors: one supervised shard actor per (projection generation, source, shard).

They know ports and the core, nothing else: no adapter, no settings file, no socket.
"""
