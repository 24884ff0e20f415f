"""``fabric status``: what the controller says of everything, or, when it is down, what the journal knows."""
