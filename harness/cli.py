"""The command line. Results on stdout, everything else on stderr; exit code 0 only on success.

Exit codes: 0 all done; 1 not all done (infrastructure failed, or a record could not be written): run the same command
again to resume; 2 the input is wrong; 130 stopped by Ctrl-C.
"""

import os
import signal
import sys
from typing import Annotated, NoReturn

import typer

from srft.env.errors import InputError, SrftError
from srft.harness.commands.calibrate import calibrate
from srft.harness.commands.clean import clean
from srft.harness.commands.collect import collect
from srft.harness.commands.command import command, log_from
from srft.harness.commands.compare import compare
from srft.harness.commands.config import config
from srft.harness.commands.critique import critique
from srft.harness.commands.debug import debug
from srft.harness.commands.doctor import doctor
from srft.harness.commands.evaluate import evaluate
from srft.harness.commands.export import export
from srft.harness.commands.import_runs import import_runs
from srft.harness.commands.loop import loop
from srft.harness.commands.options import fail
from srft.harness.commands.practice import practice
from srft.harness.commands.push import push
from srft.harness.commands.report import report
from srft.harness.commands.rows import rows
from srft.harness.commands.runs import runs
from srft.harness.commands.serve import serve
from srft.harness.commands.show import show
from srft.harness.commands.train import train
from srft.harness.commands.view import view

app = typer.Typer(
    context_settings={"help_option_names": ["-h", "--help"]},
    invoke_without_command=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Step Rejection Fine-Tuning for software-engineering agents: episodes in containers, graded officially.",
)
for function in (
    doctor,
    collect,
    evaluate,
    import_runs,
    critique,
    calibrate,
    rows,
    show,
    train,
    serve,
    practice,
    report,
    runs,
    compare,
    export,
    push,
    view,
    loop,
    debug,
    clean,
    config,
):
    app.command("import" if function is import_runs else None)(command(function))


def main() -> NoReturn:
    """Run a command; turn what srft raises on purpose into one sentence."""
    # Before torch is imported: its threads must not spin on the cores that containers and other processes work on.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    if not sys.stderr.isatty():  # a log is not to be filled with bars of downloads and of loading weights
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    # Else Ctrl-C during the seconds of importing ends without a word, or as an import that failed.
    signal.signal(signal.SIGINT, lambda *_: fail("stopped", 130))
    try:
        log_from("environment")
        app(standalone_mode=True)
    except InputError as error:
        fail(error, 2)
    except SrftError as error:
        fail(error, 1)
    except KeyboardInterrupt:
        fail("stopped", 130)
    raise AssertionError("typer ends the process")


def _print_version(asked: bool) -> None:
    if asked:
        import srft

        print(srft.__version__)
        raise typer.Exit


@app.callback()
def _root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help())


if __name__ == "__main__":
    main()
