"""Who a request comes from: API keys, tokens of an OpenID Connect provider, sessions of the studio."""
