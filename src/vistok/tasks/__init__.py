"""One file, one verb: the only place where the parts meet."""
