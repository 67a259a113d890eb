"""A file for each table or figure in which a paper varies its method: a study, and `main` to train one of its runs.
`xmr study` lists them."""
