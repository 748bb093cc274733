"""TLS between the machines of an installation: an authority of its own, the certificates it issues, who trusts it."""
