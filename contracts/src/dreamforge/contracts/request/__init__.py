"""What a job asks for: parameters, their bounds, and how a request is resolved. Pure."""
