"""OpenAI's image API: `images/generations`, `images/edits`, `images/variations`, and `models`."""
