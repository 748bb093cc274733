"""What the tests of the whole system share: an API client, systems to run it against, faults and random messages."""
