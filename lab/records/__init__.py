"""What is read from, and written about, notebooks that have run."""
