"""The shape of the event log: subjects, streams, envelopes. Pure."""
