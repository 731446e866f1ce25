"""`python -m polytag` is the command `polytag`."""

from polytag.cli.main import main

main()
