"""What runs on a node before and beside Ray: one boot script for every site, and the node agent it starts."""
