"""The pytest kit: real servers, isolated per test, and helpers that await what can be observed."""

from dreamforge.runtime.testing.eventually import eventually

__all__ = ["eventually"]
