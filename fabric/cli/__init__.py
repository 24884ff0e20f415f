"""The command line. One file a verb; ``main.py`` has the table of verbs, ``exits.py`` the table of exit codes."""
