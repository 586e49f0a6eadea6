"""How to get the packages of an extra: for every message that says some are missing."""


def how_to_install(extra: str) -> str:
    """Give the command as in the documentation: from a clone, as nothing is on PyPI yet."""
    return (
        "In your clone of scmedal-tools, run:\n"
        f'pip install ".[{extra}]"  # with uv: uv sync --extra {extra}'
    )
