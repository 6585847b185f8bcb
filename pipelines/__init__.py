"""How stages are run: units of work, their execution in process or on Dask, and the command line."""
