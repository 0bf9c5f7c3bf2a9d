"""What `offhook demo` runs: two voices, an app written with the official SDK, and a picture of the call."""
