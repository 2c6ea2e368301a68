"""The cluster software: what the openssi packages install on a node."""

__version__ = "3.0.0"
