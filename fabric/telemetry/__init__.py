"""What the fabric tells the world: one table of names, one place that turns reasons into sentences."""
