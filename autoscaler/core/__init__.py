"""Ring 1: the brain. Pure: snapshot in, decision out, ``now`` is an argument."""
