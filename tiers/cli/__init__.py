"""The `tiers` command. Each command is a file beside this one, imported only when it is used, so
that `tiers --help` answers at once."""

import errno
import importlib
from typing import Any, Final

import click

from tiers import __version__
from tiers.core.printable import printable_lines, printable_text
from tiers.errors import TiersError

COMMANDS: Final = {
    "agent": "Run one agent of a topology.",
    "up": "Run every agent of a topology on this machine.",
    "status": "Ask every agent how it does.",
    "audit": "Prove from manifests what was delivered.",
    "check": "Check a topology file and show what it means.",
    "diff": "Show what another topology file would change.",
    "reload": "Have agents read their topology file now.",
    "demo": "See tiers survive a killed aggregator, on this machine.",
    "channel": "Look into the channel of a stopped agent.",
    "dead": "See, retry or drop what could not be delivered.",
}


class _Failure(click.ClickException):
    """A TiersError, for a person: one `Error:` and no traceback."""

    exit_code = 2


class _Commands(click.Group):
    """Knows the commands by name; finds `command` in a command's file when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command = importlib.import_module(f"tiers.cli.{cmd_name}").command
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in COMMANDS and not name.startswith("-"):
            import difflib

            near = difflib.get_close_matches(name, COMMANDS, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            ctx.fail(f"No such command {name!r}.{hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except TiersError as error:
            raise _Failure("\n".join(printable_lines(str(error)))) from error
        except OSError as error:
            if error.errno == errno.EPIPE:  # who reads has heard enough: click ends quietly
                raise
            where = f"{error.filename}: " if error.filename is not None else ""
            text = printable_text(f"{where}{error.strerror or error}")
            raise _Failure(text) from error


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Example: tiers check topologies/quickstart.toml",
)
@click.version_option(__version__, prog_name="tiers")
def main() -> None:
    """Moves logs through tiers of agents into HDFS or a directory, and loses nothing."""
