"""The package's version: that of the header it was written for."""

__version__ = "0.1.0"
