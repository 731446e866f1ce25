"""Files at addresses: of the web with the standard library alone, of object stores through fsspec."""
