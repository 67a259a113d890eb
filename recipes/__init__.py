"""A file for each paper and dataset: a configuration, and `main` to train it. `xmr recipes` lists them."""
