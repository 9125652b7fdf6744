"""The command ``farm3d``: reads the arguments, runs one verb, and turns every error into one line and an exit code.

Exit codes: 0 done; 1 an error inside farm3d; 2 something the user can mend (bad arguments, bad input, missing part); 3 training met a
number that is not finite; 130 interrupted; 143 and 129 ended by SIGTERM and SIGHUP.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import tyro

from farm3d.apps.barn_options import BarnCheckOptions, BarnLookOptions, BarnMakeOptions, BarnVerbs
from farm3d.apps.create_options import CreateOptions, MorphOptions
from farm3d.apps.evaluate_options import EvaluateOptions
from farm3d.apps.generate_options import (
    DataCheckOptions,
    DataFeaturesOptions,
    DataLookOptions,
    DataVerbs,
    GenerateOptions,
    PrepareDataOptions,
)
from farm3d.apps.options import DoctorOptions, ModelsFetchOptions, ModelsListOptions, ModelsOptions, ReconstructOptions, RenderOptions
from farm3d.apps.prior_options import (
    PriorJudgeOptions,
    PriorLookOptions,
    PriorReaderOptions,
    PriorScoreOptions,
    PriorTrainOptions,
    PriorVerbs,
)
from farm3d.apps.train_options import TrainOptions
from farm3d.core.errors import Farm3DError
from farm3d.core.version import __version__

__all__ = ["main", "parse"]

# Before torch is imported: threads that wait for each other sleep instead of spinning, or a busy machine makes no progress.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

_Verb = (
    Annotated[ReconstructOptions, tyro.conf.subcommand("reconstruct", prefix_name=False)]
    | Annotated[CreateOptions, tyro.conf.subcommand("create", prefix_name=False)]
    | Annotated[MorphOptions, tyro.conf.subcommand("morph", prefix_name=False)]
    | Annotated[RenderOptions, tyro.conf.subcommand("render", prefix_name=False)]
    | Annotated[ModelsOptions, tyro.conf.subcommand("models", prefix_name=False)]
    | Annotated[BarnVerbs, tyro.conf.subcommand("barn", prefix_name=False)]
    | Annotated[EvaluateOptions, tyro.conf.subcommand("evaluate", prefix_name=False)]
    | Annotated[PriorVerbs, tyro.conf.subcommand("prior", prefix_name=False)]
    | Annotated[GenerateOptions, tyro.conf.subcommand("generate", prefix_name=False)]
    | Annotated[PrepareDataOptions, tyro.conf.subcommand("prepare-data", prefix_name=False)]
    | Annotated[DataVerbs, tyro.conf.subcommand("data", prefix_name=False)]
    | Annotated[TrainOptions, tyro.conf.subcommand("train", prefix_name=False)]
    | Annotated[DoctorOptions, tyro.conf.subcommand("doctor", prefix_name=False)]
)

_DESCRIPTION = """One photograph of an animal in, or a few words; a rigged, textured, animated GLB out.

`farm3d VERB --help` explains a verb; --version and --debug (show where an error came from) work too.
`farm3d --tyro-print-completion bash` (or zsh) prints a completion script."""


_SEVERAL = ("--set", "--without")
"""Options of `train` whose values add up: given twice the last would win, and the first be lost unseen for hours."""


def parse(arguments: Sequence[str]) -> Any:
    """Return the options object of the verb in ``arguments`` (without the program name).

    Raises:
        SystemExit: after help (code 0) or a usage error (code 2, one or two lines on stderr), as argparse does.
    """
    if "" in arguments:  # an empty path would mean the current folder
        _complain("an empty argument", hint="is a variable of your shell not set?")
        raise SystemExit(2)
    names = [word.partition("=")[0] for word in arguments]
    if twice := next((name for name in _SEVERAL if names.count(name) > 1), None):
        _complain(f"{twice} is given twice", hint=f"give it once, with all its values; see `farm3d {_verb_of(arguments)}--help`")
        raise SystemExit(2)
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            options = tyro.cli(
                _Verb,  # pyright: ignore[reportArgumentType]
                prog="farm3d",
                description=_DESCRIPTION,
                args=list(arguments),
                config=(tyro.conf.OmitArgPrefixes, tyro.conf.OmitSubcommandPrefixes, tyro.conf.FlagCreatePairsOff),
            )
    except SystemExit as stop:
        if stop.code:
            _complain(_shortened(complaint.getvalue()), hint=f"see `farm3d {_verb_of(arguments)}--help`")
        raise
    if isinstance(options, ReconstructOptions) and not options.photos:
        _complain("no photograph given", hint="name at least one picture or folder: farm3d reconstruct PHOTO --out DIR")
        raise SystemExit(2)
    return options.action if isinstance(options, ModelsOptions | BarnVerbs | PriorVerbs | DataVerbs) else options


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    _mend_streams()
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    try:
        if words == ["--version"]:
            print(f"farm3d {__version__}")
            return 0
        options = parse(words or ["--help"])
        with _polite_ends():
            code = _run(options)
        try:
            sys.stdout.flush()
        except BrokenPipeError:  # what was to be done is done, and ``code`` says how
            _drop_stdout()
        return code
    except SystemExit as stop:  # help, usage errors and signals
        return stop.code if isinstance(stop.code, int) else 0 if stop.code is None else 2
    except Farm3DError as error:
        if debug:
            traceback.print_exc()
        _complain(error.message, hint=error.hint)
        return error.exit_code
    except KeyboardInterrupt:
        _complain("interrupted")
        return 130
    except BrokenPipeError:
        _drop_stdout()  # the reader of our output went away (`farm3d … | head`): not an error
        return 0
    except OSError as error:  # the system said no: a full disk behind stdout, a name too long, too many open files
        if debug:
            traceback.print_exc()
        _drop_stdout()
        name = f"{error.filename}: " if error.filename is not None else ""
        _complain(f"{name}{error.strerror or error}", hint="the system refused; --debug shows where it happened")
        return 2
    except Exception as error:
        if debug:
            traceback.print_exc()
        kind = type(error).__name__
        _complain(f"internal error: {kind}: {error}", hint="please report it; --debug shows where it happened")
        return 1


@contextlib.contextmanager
def _polite_ends() -> Iterator[None]:
    """Unwind at SIGTERM (a batch queue, a service manager) and SIGHUP (a closed terminal) as at Ctrl-C: temporary files go away."""
    owner, before = os.getpid(), {}

    def end(number: int, frame: object) -> None:
        if os.getpid() != owner:  # a forked child, which has nothing of ours to put away
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        raise SystemExit(128 + number)

    if threading.current_thread() is threading.main_thread():
        for number in (getattr(signal, name, None) for name in ("SIGTERM", "SIGHUP")):
            if number is not None and signal.getsignal(number) is signal.SIG_DFL:  # `nohup` has it ignored: so it stays
                before[number] = signal.signal(number, end)
    try:
        yield
    except SystemExit as stop:
        if isinstance(stop.code, int) and stop.code - 128 in before:
            _complain(f"ended by {signal.Signals(stop.code - 128).name}")
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _mend_streams() -> None:
    """Give standard streams that the caller closed an empty end (else a file we open could become the place where messages go), and
    let a letter that the terminal's language lacks, in the name of a file, be escaped instead of being an error.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
    sys.stdin, sys.stdout, sys.stderr = (
        stream if stream is not None else open(os.devnull, mode)  # noqa: SIM115 -- they live as long as the process
        for stream, mode in ((sys.stdin, "r"), (sys.stdout, "w"), (sys.stderr, "w"))
    )
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _drop_stdout() -> None:
    """Point stdout elsewhere: when Python ends it writes what is left, and would complain."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(options: Any) -> int:
    """Import the verb's file and call it; each import is here so that no verb pays for another."""
    match options:
        case ReconstructOptions():
            from farm3d.apps.reconstruct import reconstruct

            return reconstruct(options)
        case CreateOptions():
            from farm3d.apps.create import create

            return create(options)
        case MorphOptions():
            from farm3d.apps.morph import morph_files

            return morph_files(options)
        case RenderOptions():
            from farm3d.apps.render import render

            return render(options)
        case ModelsFetchOptions():
            from farm3d.apps.models import fetch_models

            return fetch_models(options)
        case ModelsListOptions():
            from farm3d.apps.models import list_models

            return list_models(options)
        case BarnMakeOptions():
            from farm3d.apps.barn import make_barn

            return make_barn(options)
        case BarnLookOptions():
            from farm3d.apps.barn import look_at_barn

            return look_at_barn(options)
        case BarnCheckOptions():
            from farm3d.apps.barn import check_barn

            return check_barn(options)
        case EvaluateOptions():
            from farm3d.apps.evaluate import evaluate

            return evaluate(options)
        case PriorTrainOptions():
            from farm3d.apps.prior import train_prior

            return train_prior(options)
        case PriorLookOptions():
            from farm3d.apps.prior import look_at_prior

            return look_at_prior(options)
        case PriorScoreOptions():
            from farm3d.apps.prior_score import score_prior

            return score_prior(options)
        case PriorJudgeOptions():
            from farm3d.apps.prior_judge import judge_prior

            return judge_prior(options)
        case PriorReaderOptions():
            from farm3d.apps.prior_reader import reader_for_prior

            return reader_for_prior(options)
        case GenerateOptions():
            from farm3d.apps.generate import generate

            return generate(options)
        case PrepareDataOptions():
            from farm3d.apps.data import prepare_data

            return prepare_data(options)
        case DataCheckOptions():
            from farm3d.apps.data import check_training_set

            return check_training_set(options)
        case DataLookOptions():
            from farm3d.apps.data import look_at_training_set

            return look_at_training_set(options)
        case DataFeaturesOptions():
            from farm3d.apps.data import features_of_training_set

            return features_of_training_set(options)
        case TrainOptions():
            from farm3d.apps.train import train

            return train(options)
        case DoctorOptions():
            from farm3d.apps.doctor import doctor

            return doctor(options)
        case _:
            raise TypeError(f"no verb takes {type(options).__name__}")


def _complain(message: str, *, hint: str = "") -> None:
    """Print one line on stderr, red where it is a terminal."""
    line = f"farm3d: {message}" + (f" ({hint})" if hint else "")
    line = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in " ".join(line.split()))
    if sys.stderr.isatty() and "NO_COLOR" not in os.environ:
        line = f"\033[31m{line}\033[0m"
    with contextlib.suppress(OSError):  # stderr may be closed
        print(line, file=sys.stderr, flush=True)


def _shortened(box: str) -> str:
    """Turn tyro's framed usage error into a sentence: what was wrong and the options it is about, without their help texts."""
    sections: list[list[str]] = [[]]
    for line in box.splitlines()[1:]:  # the first line is the frame with its title
        text = line.strip("│╰╯").rstrip()
        if text.strip(" ─-") == "":  # "-" and one more blank where the terminal knows only ASCII
            sections.append([])
        elif re.match(r" {0,2}\S| {3,4}-.*\(applied to | {5,6}-", text):  # indented otherwise: help texts
            sections[-1].append(text.strip())
    told = [" ".join(lines) for lines in sections if lines and not lines[0].startswith(("For full helptext", "Argument helptext"))]
    text = ". ".join(sentence.rstrip(".") for sentence in told)
    # Of an option that other verbs have tyro tells their help, and that order might matter.
    text = re.sub(r"^Unrecognized or misplaced options: ((?:\S+ \(applied to [^)]*\) ?)+)\..*", _foreign, text)
    # What tyro says of a number that may be left out is about its own types.
    plain = {"INT": "a whole number", "FLOAT": "a number"}
    return re.sub(
        r"no type matching \{None\}\|(INT|FLOAT) could be instantiated from \[(.*?)\]\. Got errors:.*",
        lambda found: f"expected {plain[found[1]]}, got {found[2]}",
        text,
    )


def _foreign(found: re.Match[str]) -> str:
    options, verb = re.findall(r"(\S+) \(applied to ([^)]*)\)", found[1]), found[1].rsplit("(applied to ", 1)[1].rstrip(") ")
    return f"{verb} has no option {', '.join(name for name, _ in options)}"


def _verb_of(arguments: Sequence[str]) -> str:
    verbs = ("reconstruct", "create", "morph", "render", "models", "barn", "evaluate", "prior", "generate", "prepare-data", "data", "train")
    verbs += ("doctor",)
    return f"{arguments[0]} " if arguments and arguments[0] in verbs else ""
