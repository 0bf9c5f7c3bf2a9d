"""Processes and wiring: the REST surface, webhooks, configuration, keys and certificates."""
