"""Row changes and checkpoint into Postgres, in one transaction."""
