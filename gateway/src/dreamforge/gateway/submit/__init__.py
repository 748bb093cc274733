"""From an HTTP body to a durable job: validation, limits, uploads, append."""
