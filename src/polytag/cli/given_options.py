"""Which options the command line gave, whatever their values."""

import typer


def command_line_options(context: typer.Context) -> set[str]:
    """The options on the command line, such as --epochs."""
    sources = {option.opts[0]: context.get_parameter_source(option.name or "") for option in context.command.params}
    return {flag for flag, source in sources.items() if source is not None and source.name == "COMMANDLINE"}
