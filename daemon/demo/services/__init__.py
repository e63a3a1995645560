"""The real servers that the tests and the demonstration start beside themselves.

Owns fetching, starting, killing and ending them: `kafka` (Apache Kafka on a Java runtime from a wheel), `dynoxide`
(DynamoDB, durable, one binary) and `ministack` (DynamoDB, SQS and EventBridge, in an environment of its own). Beneath
them: `service` is what they have in common, `guard` ends a server whose starter died, `ports` and `cache` hold what
several of them share on one machine, `jars` fetches Kafka. None knows the daemon.

`python -m daemon.demo.services` fetches them all, or starts them until Ctrl-C.

This file imports nothing, so that one server's needs are not another's.
"""
