"""The listener for runners of other machines: TLS, one credential each, and no more than a runner needs."""
