"""PCM arithmetic on arrays. Deterministic: no clock, no I/O."""
