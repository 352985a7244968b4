"""Arguments of the command ``dssl``.

argparse does all that is needed here, and costs no dependency.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Collection
from pathlib import Path
from typing import NoReturn

import dssl_sklearn
from dssl_sklearn._checks import did_you_mean

_EPILOG = """\
exit codes: 0 all is done; 1 the data cannot be used or a file cannot be written; 2 the command was
called wrongly. Outputs appear whole or not at all, and replace nothing without --force.
"""


class _Parser(argparse.ArgumentParser):
    """Parser that says which command a mistyped one may have meant."""

    commands: Collection[str] = ()

    def error(self, message: str) -> NoReturn:
        wrong = re.match(r"argument COMMAND: invalid choice: '([^']*)'", message)
        super().error(message + (did_you_mean(wrong[1], self.commands) if wrong else ""))


def make_parser() -> argparse.ArgumentParser:
    """Build the parser with all commands.

    Returns
    -------
    argparse.ArgumentParser
        Its result has the entry ``command``.
    """
    parser = _Parser(
        prog="dssl",
        description="Graph neural networks for crystals: pretrain, fit, predict, embed, and look "
        "over the data, on folders of CIF or POSCAR files and on CSV or Parquet tables.",
        epilog=_EPILOG,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--version", action="version", version=f"dssl_sklearn {dssl_sklearn.__version__}"
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    _doctor(commands)
    _pretrain(commands)
    _fit(commands)
    _predict(commands)
    _embed(commands)
    parser.commands = commands.choices
    return parser


_Commands = "argparse._SubParsersAction[argparse.ArgumentParser]"


def _command(commands: _Commands, name: str, about: str, example: str) -> argparse.ArgumentParser:  # type: ignore[valid-type]
    command: argparse.ArgumentParser = commands.add_parser(  # type: ignore[attr-defined]
        name,
        help=about,
        description=f"{about[0].upper()}{about[1:]}.",
        epilog=f"example: {example}",
        allow_abbrev=False,
    )
    return command


def _doctor(commands: _Commands) -> None:  # type: ignore[valid-type]
    command = _command(
        commands,
        "doctor",
        "report what is wrong with structures and targets",
        "dssl doctor labels.csv --target K_VRH --out report.csv",
    )
    _add_data(command)
    _add_targets(command, required=False)
    command.add_argument(
        "--cutoff",
        type=_positive,
        default=8.0,
        metavar="ANGSTROM",
        help="distance within which an atom without neighbors counts as isolated (default: 8)",
    )
    command.add_argument("--out", type=Path, help="table of all findings (.csv or .parquet)")
    _add_common(command)


def _pretrain(commands: _Commands) -> None:  # type: ignore[valid-type]
    command = _command(
        commands,
        "pretrain",
        "learn from structures without labels",
        "dssl pretrain cifs/ --out mine.safetensors",
    )
    _add_data(command)
    _add_training(command, "none", "none")


def _fit(commands: _Commands) -> None:  # type: ignore[valid-type]
    command = _command(
        commands,
        "fit",
        "learn a property from labeled structures",
        "dssl fit labels.csv --target K_VRH --out model.safetensors",
    )
    _add_data(command)
    _add_targets(command, required=True)
    _add_training(command, None, "mp; none with --recipe paper")


def _predict(commands: _Commands) -> None:  # type: ignore[valid-type]
    command = _command(
        commands,
        "predict",
        "predict the property that a model has learned",
        "dssl predict model.safetensors cifs/ --out predictions.csv",
    )
    command.add_argument("model", type=Path, help="file that `dssl fit` wrote")
    _add_data(command)
    _add_result(command)


def _embed(commands: _Commands) -> None:  # type: ignore[valid-type]
    command = _command(
        commands,
        "embed",
        "turn structures into vectors",
        "dssl embed mp cifs/ --out embeddings.parquet",
    )
    command.add_argument(
        "weights", help="'mp', 'mp-distilled', or a file that `dssl pretrain` wrote"
    )
    _add_data(command)
    _add_result(command)


def _add_data(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "data",
        type=Path,
        nargs="+",
        help="folder of CIF or POSCAR files, such files, or a CSV or Parquet table",
    )
    group = command.add_argument_group("tables")
    group.add_argument(
        "--path-column",
        metavar="NAME",
        help="column of file paths, relative to the table (default: 'path', 'file', ...)",
    )
    group.add_argument(
        "--id-column", metavar="NAME", help="column of ids (default: 'id', ..., or the paths)"
    )
    group.add_argument(
        "--folder",
        type=Path,
        metavar="DIR",
        help="folder of the files; without a column of paths they are found by id",
    )


def _add_targets(command: argparse.ArgumentParser, *, required: bool) -> None:
    command.add_argument(
        "--target",
        action="append",
        default=None if required else [],
        required=required,
        metavar="NAME",
        help="column of the property; repeat it for several",
    )
    command.add_argument(
        "--task",
        choices=["auto", "regression", "classification"],
        default="auto",
        help="what the property is (default: auto, classes if it is text or true/false)",
    )


def _add_training(command: argparse.ArgumentParser, pretrained: str | None, said: str) -> None:
    command.add_argument(
        "--out", type=Path, required=True, help="file of weights to write (.safetensors)"
    )
    group = command.add_argument_group("training")
    group.add_argument(
        "--pretrained",
        default=pretrained,
        metavar="WEIGHTS",
        help=f"'mp', 'mp-distilled', a file, or 'none' (default: {said})",
    )
    group.add_argument("--recipe", choices=["default", "paper"], default="default")
    group.add_argument("--epochs", type=_count, metavar="N", help="passes over the structures")
    group.add_argument("--batch-size", type=_count, metavar="N", help="crystals in a batch")
    group.add_argument("--lr", type=_positive, metavar="RATE", help="learning rate")
    group.add_argument("--seed", type=_seed, default=0, metavar="N", help="(default: 0)")
    group.add_argument("--device", default="auto", help="cpu, cuda, ... (default: auto)")
    _add_on_error(command)
    _add_common(command)


def _add_result(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--out", type=Path, required=True, help="table to write (.csv or .parquet)"
    )
    _add_on_error(command)
    _add_common(command)


def _add_on_error(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--on-error",
        choices=["raise", "skip"],
        default="raise",
        help="stop at structures that cannot be used, or go on without them (default: raise)",
    )


def _add_common(command: argparse.ArgumentParser) -> None:
    command.add_argument("--force", action="store_true", help="replace existing outputs")
    command.add_argument("--quiet", action="store_true", help="no progress and no remarks")


def _count(text: str) -> int:
    return _checked(text, int(text), minimum=1)


def _seed(text: str) -> int:
    value = _checked(text, int(text), minimum=0)
    if value >= 2**32:
        raise argparse.ArgumentTypeError(f"{text!r} is not below {2**32}")
    return value


def _checked(text: str, value: int, *, minimum: int) -> int:
    if value < minimum:
        raise argparse.ArgumentTypeError(f"{text!r} is below {minimum}")
    return value


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no positive number")
    return value
