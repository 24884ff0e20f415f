"""Where work on data of a class may run: verdicts, and the label selectors that carry them to Ray."""
