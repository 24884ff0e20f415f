"""The queue: which waiting job may start next, and why another may not. Pure."""
