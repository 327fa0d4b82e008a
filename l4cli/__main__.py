"""The `l4` command's entry point: catches Ctrl-C also while the command's modules are imported."""

from __future__ import annotations

import sys


def main() -> None:
    """Run `l4`, and exit with one of the codes in `l4cli.errors`."""
    try:
        from l4cli.app import main as run

        run()
    except KeyboardInterrupt:
        import signal

        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second one would interrupt the exit
        if sys.stderr is not None and sys.stderr.isatty():
            sys.stderr.write("\n")  # behind the terminal's ^C
        sys.exit(128 + signal.SIGINT)


if __name__ == "__main__":
    main()
