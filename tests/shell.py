"""The command, called in this process or in one of its own."""

from __future__ import annotations

import subprocess
import sys

from typer.testing import CliRunner

from scmedal_tools._cli._app import app


def invoke(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def succeed(*arguments):
    """Output of a command that must end well."""
    result = invoke(*arguments)
    if result.exception is not None:
        raise AssertionError(result.output) from result.exception
    return result.output


def refuse(*arguments):
    """Output of a command that must end with a message and an exit code."""
    result = invoke(*arguments)
    assert isinstance(result.exception, SystemExit)
    assert result.exit_code != 0
    assert "Traceback" not in result.output
    return " ".join(result.output.replace("│", " ").split())


LARGE = ("torch", "scvi", "scanpy", "anndata")


def refuse_at_once(*arguments):
    """Error of a command that must end before anything large is imported."""
    return _alone(arguments, exit_code=1, without=LARGE).stderr


def succeed_at_once(*arguments):
    """Output of a command that must end well before any package of arrays is imported."""
    return _alone(arguments, exit_code=0, without=(*LARGE, "h5py", "numpy", "pandas")).stdout


def _alone(arguments, exit_code, without):
    code = (
        "import sys\n"
        "from scmedal_tools._cli import app\n"
        "try:\n"
        f"    app({[str(argument) for argument in arguments]!r})\n"
        "except SystemExit as end:\n"
        f"    assert end.code == {exit_code}, end.code\n"
        f"assert not set({without!r}) & set(sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done
