"""The append-only, hash-chained record of everything that was decided and done; the only truth on disk."""
