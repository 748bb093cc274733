"""Documents that are generated: OpenAPI, AsyncAPI, and their pages for people."""
