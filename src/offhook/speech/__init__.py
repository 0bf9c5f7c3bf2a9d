"""Text to speech and speech to text, behind two small interfaces: see `engines`."""
