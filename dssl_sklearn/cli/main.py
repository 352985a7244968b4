"""The command ``dssl``: one call, one exit code, one sentence for whatever goes wrong."""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Sequence

from dssl_sklearn.cli.errors import DATA_PROBLEM, INTERRUPTED, USAGE, UsageError
from dssl_sklearn.cli.parser import make_parser
from dssl_sklearn.exceptions import DSSLError


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command ``dssl``.

    Parameters
    ----------
    argv : sequence of str, default=None
        Arguments without the name of the program; None for those of the process.

    Returns
    -------
    int
        Exit code: 0 if all is done, 1 for a problem of the data, 2 for one of the call, 130 if the
        user interrupted.
    """
    parser = make_parser()
    try:
        args = parser.parse_args(argv)
    except SystemExit as end:  # argparse has said why
        return end.code if isinstance(end.code, int) else USAGE
    if args.command is None:
        parser.print_help(sys.stderr)
        return USAGE
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("default", UserWarning)
        # The doctor tells what the reader of CIF files remarks; elsewhere it would drown the rest.
        warnings.filterwarnings("ignore", "Issues encountered while parsing CIF")
        warnings.showwarning = _show_warning
        return _run(args)


def _run(args: argparse.Namespace) -> int:
    from dssl_sklearn.cli import commands

    try:
        code: int = getattr(commands, args.command)(args)
    except UsageError as error:
        return _fail(args, error, USAGE)
    except (DSSLError, OSError) as error:
        return _fail(args, error, DATA_PROBLEM)
    except KeyboardInterrupt:
        print("\ndssl: interrupted, nothing was written", file=sys.stderr)
        return INTERRUPTED
    return code


def _fail(args: argparse.Namespace, error: Exception, code: int) -> int:
    print(f"dssl {args.command}: error: {error}", file=sys.stderr)
    return code


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    print(f"dssl: warning: {message}", file=sys.stderr)
