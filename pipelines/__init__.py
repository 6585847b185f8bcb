"""How stages are run: the flow of a run, its units in process or on Dask, the command line."""
