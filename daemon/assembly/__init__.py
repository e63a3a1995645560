"""Settings into parts: what `daemon.app` puts together, built here kind by kind.

sources   each kind of source, and where shards without a checkpoint begin
kafka     Kafka's sources, apart because their client is slow to import
stores    each kind of store
dynamodb  the DynamoDB store's connections, and which endpoints are refused
groups    memberships in consumer groups, and the progress they show
"""
