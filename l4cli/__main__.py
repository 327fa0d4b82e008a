"""`python -m l4cli` is `l4`."""

from l4cli.app import main

main()
