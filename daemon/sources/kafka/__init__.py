"""The Kafka source, for Apache Kafka and MSK: a shard per partition, read committed, resumed by the checkpoint alone.

source      the port: listing, opening, starting points, backlog
reader      one opening of one partition
lane        one consumer that feeds many readers
cluster     questions to the brokers: metadata, offsets, one record again
client      aiokafka's client, watched: what each fetch was answered
records     records into events: CloudEvents, Debezium outbox, plain JSON
identity    what a checkpoint remembers of the log
"""
