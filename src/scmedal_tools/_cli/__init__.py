"""The command ``scmedal``."""

from ._app import app

__all__ = [
    "app",
]
