"""The reference page of the command line, generated from the verbs themselves and the table of exit codes."""
