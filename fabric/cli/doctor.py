"""``fabric doctor``: what would keep the fabric from running on this machine, each with what to do about it."""
