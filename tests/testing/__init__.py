"""Small real things that tests are made of; each has a test of its own."""
