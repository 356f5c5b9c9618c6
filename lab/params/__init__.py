"""What a notebook is given before it runs: plain YAML, declared parameters, papermill's checks."""
