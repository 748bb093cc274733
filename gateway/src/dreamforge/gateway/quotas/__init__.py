"""What each tenant may use, and how much of it is used."""
