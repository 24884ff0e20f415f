"""The embedded cloud: a server that sells pretended machines for pretended money, and runs them as real processes."""
