"""Which queued job goes to which runner now: the pure plan and the state it reads."""
