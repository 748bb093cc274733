"""ComfyUI's API v2: jobs, events with ids, assets by hash."""
