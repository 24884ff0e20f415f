"""Ray's autoscaler v2 with our parts plugged in. The only package that imports Ray's autoscaler internals."""
