"""The status as a screen: tables of sites, node types and nodes, the queue against the baseline, and money."""
