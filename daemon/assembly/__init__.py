"""Settings into parts: what `daemon.app` puts together, built here kind by kind.

    sources   each kind of source, and where shards without a checkpoint begin
    groups    memberships in consumer groups, and the progress they show
"""
