"""Batches: prompt templates and grids that become several jobs, submitted, watched and fetched as one."""
