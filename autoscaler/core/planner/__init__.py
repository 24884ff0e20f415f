"""The planner: which standing nodes hold the work, and which nodes to buy for the rest."""
