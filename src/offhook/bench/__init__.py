"""What `offhook bench` runs: load from separate processes, honest figures as JSON lines."""
