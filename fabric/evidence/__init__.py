"""Proof of where a job's data was: signed extracts of the journal that verify without it."""
