"""ComfyUI's interfaces: a workflow of known nodes is one request, by the classic API and by `/api/v2`."""
