"""The `xmr` command: one line per command; each room keeps its own in its command.py.

A command is a function with a docstring: its parameters become the options. What takes long to import is imported
within the function, so that `xmr --help` answers at once. A command returns its exit status; None is 0.
"""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout, suppress
from pathlib import Path
from typing import Annotated, Literal

import tyro.conf
from tyro.extras import SubcommandApp

from preprocessing.arrow.command import from_hf_command, from_parquet_command
from xmr_e2e.console import report_errors
from xmr_e2e.data.command import sheet_command, verify_command
from xmr_e2e.doctor.command import doctor_command
from xmr_e2e.models.command import embed_command
from xmr_e2e.plugins import take_imports
from xmr_e2e.runs.command import config_command, eval_command, export_command, push_command, report_command
from xmr_e2e.search.command import index_command, search_command, serve_command
from xmr_e2e.shards import command as shards
from xmr_e2e.shards.audit.command import audit_command
from xmr_e2e.shards.remote.command import mount_command, trust_command
from xmr_e2e.studies import study_command
from xmr_e2e.studies.command import copy_command, recipes_command, table_command

DESCRIPTION = (
    "Cross-modal retrieval: images and texts. For a model with a method of your own, name its module or file before "
    "the command: xmr --import my_method.py eval RUN."
)


def completion_command(shell: Annotated[Literal["bash", "zsh", "fish"], tyro.conf.Positional], /) -> None:
    """Print a script with which a shell completes `xmr`'s commands and options at the Tab key.

    bash: xmr completion bash > ~/.local/share/bash-completion/completions/xmr. zsh: into a file _xmr of a folder of
    $fpath. fish: xmr completion fish > ~/.config/fish/completions/xmr.fish.

    Args:
        shell: which one.
    """
    script = io.StringIO()
    with redirect_stdout(script), suppress(SystemExit):
        app.cli(prog="xmr", args=["--tyro-print-completion", shell])
    # A description of several lines, each of which would be one more word to choose from.
    on_one_line = re.sub(
        "^COMPLETION_SPEC = .*", lambda line: line[0].replace("\\n", " "), script.getvalue(), flags=re.M
    )
    sys.stdout.write(on_one_line)


app = SubcommandApp()
recipes_app = SubcommandApp()
shards_app = SubcommandApp()
study_app = SubcommandApp()
app.command(recipes_app, name="recipes", help="List the recipes with their published figures, or copy one.")
app.command(shards_app, name="shards", help="Look at, check, adopt and convert folders of WebDataset shards.")
app.command(study_app, name="study", help="Train a recipe in many variants with many seeds, and show them as a table.")
app.command(name="doctor")(doctor_command)
app.command(name="eval")(eval_command)
app.command(name="report")(report_command)
app.command(name="config")(config_command)
app.command(name="table")(table_command)
app.command(name="search")(search_command)
app.command(name="index")(index_command)
app.command(name="serve")(serve_command)
app.command(name="embed")(embed_command)
app.command(name="export")(export_command)
app.command(name="push")(push_command)
app.command(name="completion")(completion_command)
recipes_app.command(name="list")(recipes_command)
recipes_app.command(name="copy")(copy_command)
study_app.command(name="list")(study_command.list_command)
study_app.command(name="run")(study_command.run_command)
study_app.command(name="show")(study_command.show_command)
study_app.command(name="copy")(study_command.copy_command)
shards_app.command(name="info")(shards.info_command)
shards_app.command(name="verify")(verify_command)
shards_app.command(name="sheet")(sheet_command)
shards_app.command(name="audit")(audit_command)
shards_app.command(name="index")(shards.index_command)
shards_app.command(name="from-hf")(from_hf_command)
shards_app.command(name="from-parquet")(from_parquet_command)
shards_app.command(name="to-parquet")(shards.to_parquet_command)
shards_app.command(name="mount")(mount_command)
shards_app.command(name="trust")(trust_command)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status.

    `xmr doctor RECIPE OPTIONS` does not reach tyro: the options are the recipe's, which only its own parser knows. Nor
    does `--import` before the command, which all of them have. `xmr recipes` alone is `xmr recipes list`, and `xmr
    study` is `xmr study list`: tyro has no default among subcommands.
    """

    def command() -> int | None:
        words = take_imports(sys.argv[1:] if argv is None else argv)
        if words[:1] == ["doctor"] and len(words) > 2 and not words[1].startswith("-"):
            return doctor_command(Path(words[1]), options=words[2:])
        if words in (["recipes"], ["study"]):
            words = [*words, "list"]
        status: int | None = app.cli(prog="xmr", description=DESCRIPTION, args=words)
        return status

    return report_errors(command)


if __name__ == "__main__":
    sys.exit(main())
