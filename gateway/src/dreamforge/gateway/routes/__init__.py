"""The gateway's routes, by what they speak of."""
