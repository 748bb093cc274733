"""What every service process has in common: settings, lifecycle, health, telemetry, retries."""
