"""The configuration: its schema, how text becomes it, and what an edit may change."""
