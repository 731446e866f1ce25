"""The page of a run that trains: its curves so far, its best epoch, the worst errors of that, and the time left."""
