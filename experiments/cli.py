"""The command ``ppl``: list and run experiments, check a story, fit one to data."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from experiments.report.errors import InputError
from experiments.report.launch import INTERRUPTED, OneLineParser, launch, positive
from experiments.report.script import MAIN, beside, called, scan
from experiments.report.versions import own_version
from inference.runtime.files import no_room

__all__ = ["main"]

EXAMPLES = """\
examples:
  ppl list                                        the experiments, one line each
  ppl list --models                               the stories: joint, what they answer, source
  ppl show gaussian_classes                       a story's documentation and graph (SVG)
  ppl run bayes_inversion --seed 1                writes results/bayes_inversion/report.html
  ppl run bayes_inversion --smoke                 the same with tiny settings, in seconds
  ppl run my_experiment.py --out runs             a script of your own
  ppl run --all --out results                     every experiment, and an index page of what came out
  ppl run --from results/bayes_inversion          the same run again: are the numbers the same?
  ppl report results                              the index page of whatever runs are there
  ppl check my_model.py:story --args '[100]'      is this story well formed?
  ppl fit my_model.py:story --data data.npz       fit it without writing a script

exit status:
  0  done; all claims met, story well formed, or posterior trusted
  1  a claim is not met or an experiment crashed (run), other numbers than before (run --from),
     or the story is not well formed (check)
  2  the input cannot be used, or the disk is full; one line says why
  3  the posterior is not to be trusted (fit)
"""

STORY_HELP = """\
file.py:story or package.module:story; without :story, the one that bears its file's name"""

ARGS_HELP = """\
what the story is called with, as JSON: a list by position, '[100]', or an object by name,
'{"n": 100}'; lists inside become tensors; an argument n that is left out is the row count"""

FIT_NOTES = """\
DATA.npz, as numpy.savez writes it, holds arrays by name:
  - one that bears the name of a sample site is that site's data;
  - NAME__mask, booleans of the shape of NAME, marks missing values: True is missing
    (npz files cannot hold masked arrays);
  - one that bears the name of an argument of the story (covariates, say) is passed to it.
Rows are the first axis.

It writes OUT/fit_STORY/: report.html, the posterior for inference.load (posterior/), STORY.nc for
ArviZ, tables, versions. An earlier run there is kept, renamed.

exit status: 0 if the posterior is trusted, 3 if it was fitted but is not to be trusted, 2 if the
input cannot be used.
"""

RUN_NOTES = """\
--all: every experiment in a process of its own, so that a crash stops no other. Its output is kept
as DIR/NAME/log.txt, or DIR/NAME.log if it did not finish; DIR/index.html shows what came out.
Experiments that measure time run last, one at a time. Ctrl-C keeps what is done, and --resume goes
on from there: it leaves out what DIR holds of the same seed, the same --smoke, the same version and
the same script.

--from DIR: the run in the folder DIR, again, with the same seed and flags, into again/ beside it
(or --out). It says what has changed since, and whether the numbers are the same. A run of a script of
your own is made again by `ppl run FILE --from DIR`: the folder alone never says what is executed.

exit status: 0 if every claim is met (--from: the numbers are the same), 1 if one is not, an
experiment crashed or none of --all could run here (--from: numbers differ, or there are none),
2 if the input cannot be used, 130 after Ctrl-C.
"""

CHECK_NOTES = """\
It runs the story a few times and prints its sites (kind, distribution, plates, batch | event shape,
support), what may not be meant, and whether density and gradients are finite at draws of the
prior. EXAMPLE = (args, data) beside the story is used unless --args is given. OUT/check_STORY/ gets
a prior predictive figure and a report.

exit status: 0 if the story is well formed, 1 if it is not, 2 if the input cannot be used.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``ppl``; the exit status is returned (``--help`` and ``--version`` raise SystemExit)."""
    argv = list(sys.argv[1:] if argv is None else argv)
    try:
        return _dispatch(argv)
    except InputError as error:
        print(f"ppl: error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        if not no_room(error):
            raise
        print(f"ppl: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("ppl: interrupted", file=sys.stderr)
        return INTERRUPTED


def _dispatch(argv: list[str]) -> int:
    parser = _parser()
    options, rest = parser.parse_known_args(argv)
    if options.command == "run":
        return _run(options, rest)
    if rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if options.command == "report":
        from experiments.commands.report_command import report_command

        return report_command(options.folder)
    if options.command == "list":
        return _models(options.markdown) if options.models or options.markdown else _list()
    # Torch is loaded here and not before: help, version and list answer at once.
    if options.command == "check":
        from experiments.commands.check_command import check_command

        return check_command(options, ["ppl", *argv])
    if options.command == "show":
        from experiments.commands.show import show_command

        return show_command(options)
    if options.command == "fit":
        from experiments.commands.fit import fit_command

        return fit_command(options, ["ppl", *argv])
    parser.print_help()
    return 0


def _parser() -> argparse.ArgumentParser:
    style = argparse.RawDescriptionHelpFormatter
    parser = OneLineParser(
        prog="ppl",
        description="Probabilistic programs, fitted, asked and laid beside the truth.",
        epilog=EXAMPLES,
        formatter_class=style,
    )
    parser.add_argument("--version", action="version", version=f"ppl {own_version()}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=OneLineParser)
    _catalogue_flags(commands)
    _run_flags(commands)
    _report_flags(commands)
    check = commands.add_parser(
        "check",
        help="is a story well formed, and what does it imply?",
        epilog=CHECK_NOTES,
        formatter_class=style,
    )
    fit = commands.add_parser("fit", help="fit a story to data", epilog=FIT_NOTES, formatter_class=style)
    _story_flags(check)
    _story_flags(fit)
    fit.add_argument("--data", type=Path, required=True, metavar="DATA.npz", help="see below")
    fit.add_argument("--guide", default="auto", help="a rung of the ladder (default auto)")
    fit.add_argument("--draws", type=positive, default=1000, help="per restart (default 1000)")
    fit.add_argument("--restarts", type=positive, default=4, help="independent fits (default 4)")
    return parser


def _run_flags(commands: Any) -> None:
    run = commands.add_parser(
        "run",
        add_help=False,
        help="run an experiment, by name or file; or all; or one again",
        usage="ppl run NAME|FILE.py|FOLDER [--seed N] [--out DIR] [--smoke] [its own flags]\n"
        "       ppl run --all [FOLDER] [--seed N] [--out DIR] [--smoke] [--jobs N] [--resume]\n"
        "       ppl run [FILE.py|FOLDER] --from DIR [--out DIR]",
        description="Run an experiment. `ppl run NAME --help` shows its own flags too.",
        epilog=RUN_NOTES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    run.set_defaults(parser=run)
    run.add_argument("experiment", metavar="NAME|FILE|FOLDER", nargs="?", help="see ppl list")
    run.add_argument("--seed", metavar="N", help="seed of all randomness (default 0)")
    run.add_argument("--out", metavar="DIR", help="write DIR/NAME/ (default results)")
    run.add_argument("--smoke", action="store_true", help="tiny settings, claims are not judged")
    run.add_argument("--all", action="store_true", help="every experiment (of FOLDER), and an index page")
    run.add_argument("--jobs", metavar="N", help="with --all: processes at a time (default: the cores)")
    run.add_argument("--resume", action="store_true", help="with --all: leave out what is done")
    run.add_argument("--from", dest="source", metavar="DIR", help="the run in this folder, once more")
    run.add_argument("-h", "--help", action="store_true", help="show this, or its own flags too")


def _report_flags(commands: Any) -> None:
    report = commands.add_parser("report", help="gather the runs in a folder into one index page")
    report.add_argument("folder", type=Path, metavar="DIR", help="it holds run folders; gets index.html")


def _catalogue_flags(commands: Any) -> None:
    listing = commands.add_parser("list", help="the experiments, one line each; or the stories")
    listing.add_argument("--models", action="store_true", help="the stories instead of the experiments")
    listing.add_argument("--markdown", action="store_true", help="the stories as the README's table")
    show = commands.add_parser("show", help="a story's documentation, sites and graph")
    show.add_argument("story", metavar="NAME|FILE:STORY", help="see ppl list --models")
    show.add_argument("--out", type=Path, default=Path("results"), help="where to write (default results)")


def _story_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("story", metavar="FILE:STORY", help=STORY_HELP)
    parser.add_argument("--args", metavar="JSON", help=ARGS_HELP)
    parser.add_argument("--seed", type=int, default=0, help="seed of all randomness (default 0)")
    parser.add_argument("--out", type=Path, default=Path("results"), help="where to write (default results)")
    parser.set_defaults(smoke=False)


def _list() -> int:
    scripts = scan()
    width = max((len(script.name) for script in scripts), default=0)
    for script in scripts:
        print(f"{script.name:<{width}}  {script.question}")
    return 0


def _models(as_markdown: bool) -> int:
    from experiments.commands.catalogue import markdown, scan_stories, terminal

    entries = scan_stories()
    print(markdown(entries) if as_markdown else terminal(entries))
    return 0


def _run(options: argparse.Namespace, rest: list[str]) -> int:
    name = options.experiment
    if options.help and (name is None or options.all):
        options.parser.print_help()
        return 0
    if options.all or (options.source and not options.help):
        return _run_all(options, rest) if options.all else _run_again(options, rest)
    if name is None:
        raise InputError("run: expected an experiment, by name (see ppl list) or file, or --all")
    flags = [f"--{flag}={value}" for flag in ("seed", "out", "jobs") if (value := getattr(options, flag))]
    flags += [f"--{flag}" for flag in ("smoke", "resume", "help") if getattr(options, flag)]
    # An experiment may have flags of these names; if it has none, it says so.
    flags += rest
    file, own = _script(name)
    if own:
        return launch(f"experiments.{name}", flags, prog=f"ppl run {name}")
    with beside(file):
        return launch(file, flags, prog=f"ppl run {called(file)}")


def _script(name: str) -> tuple[Path, bool]:
    """The file of a script that the command line names, and whether it is one of this project."""
    if name.endswith(".py"):
        return Path(name), False
    files = {script.name: script.path for script in scan()}
    if name in files:
        return files[name], True
    if Path(name, f"{MAIN}.py").is_file():
        return Path(name, f"{MAIN}.py"), False
    close = get_close_matches(name, files, 1)
    hint = f"did you mean {close[0]}?" if close else "ppl list shows them all"
    raise InputError(f"no experiment {name}; {hint}")


def _run_all(options: argparse.Namespace, rest: list[str]) -> int:
    from experiments.commands.run_all import run_all

    if rest or options.source:
        wrong = " ".join(rest) or "--from"
        raise InputError(
            f"run --all: unrecognized arguments: {wrong} (an experiment's own flags go with its name)"
        )
    return run_all(
        Path(options.out or "results"),
        Path(options.experiment) if options.experiment else None,
        seed=_integer("--seed", options.seed or "0", None),
        smoke=options.smoke,
        jobs=None if options.jobs is None else _integer("--jobs", options.jobs, 1),
        resume=options.resume,
    )


def _run_again(options: argparse.Namespace, rest: list[str]) -> int:
    from experiments.commands.run_again import run_again

    wrong = [f"--{flag}" for flag in ("seed", "smoke", "jobs", "resume") if getattr(options, flag)] + rest
    if wrong:
        raise InputError(f"run --from: the run keeps its own settings; leave out {' '.join(wrong)}")
    folder, out = Path(options.source), Path(options.out) if options.out else None
    return run_again(folder, out, _script(options.experiment)[0] if options.experiment else None)


def _integer(flag: str, text: str, least: int | None) -> int:
    try:
        value = int(text)
    except ValueError:
        raise InputError(f"argument {flag}: invalid int value: {text!r}") from None
    if least is not None and value < least:
        raise InputError(f"argument {flag}: expected an integer of at least {least}, got {value}")
    return value


if __name__ == "__main__":
    raise SystemExit(main())
