"""Google Cloud's own tests, and the test server that stands in for it."""
