"""One thin file a command: parse, call, print. `l4cli.app` registers them."""
