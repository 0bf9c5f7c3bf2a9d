"""Offhook: a self-hosted server for call audio streaming, and the library for the app's side of it."""

__version__ = "0.1.0"
