"""For those who test: virtual time, in-memory sockets, and a simulated caller."""
