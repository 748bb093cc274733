"""Webhooks: events of jobs, sent to the addresses that tenants name, signed as Standard Webhooks says."""
