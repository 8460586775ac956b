"""Which Heavylift this is. Asking the installed package's metadata would take each start 30 ms."""

VERSION = "0.1.0"
"""As in pyproject.toml."""
