"""The fixtures of every test, loaded by `-p dreamforge.runtime.testing.plugin` in the root pyproject.

Not a pytest11 entry point: a production install of the runtime must not carry a pytest plugin.
"""
