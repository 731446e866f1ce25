"""The command line, one file per verb: parse, call, print. Each verb imports heavy modules inside its function."""
