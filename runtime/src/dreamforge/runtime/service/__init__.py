"""What every service process has in common: settings, lifetime, health, telemetry, retries."""
