"""Makes `python -m l4cli` run the `l4` command."""

from l4cli.app import main

main()
