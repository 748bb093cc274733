"""What every service of Dream Forge stands on: settings, bus, event store, objects, telemetry."""
