"""Ring 0: frozen values. Nothing here knows a clock, a file, a thread or a library beyond the standard one."""
