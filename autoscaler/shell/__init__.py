"""Ring 3: the processes that act. The controller watches, decides and buys; the reaper ends what nothing justifies."""
