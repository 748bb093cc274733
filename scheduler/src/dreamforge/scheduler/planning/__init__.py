"""Which queued job goes to which runner now: the pure plan, and the fold of the log that it reads."""
