"""The event log on NATS JetStream: connection, appends, reads, followers."""
