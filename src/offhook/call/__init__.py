"""Call control as values: `Call.handle(message, now) -> list[Effect]`. No I/O, no clock, no logging in here."""
