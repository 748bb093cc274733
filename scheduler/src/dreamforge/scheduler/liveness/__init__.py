"""Which runners are alive, which scheduler leads, and what happens to the attempts of lost runners."""
