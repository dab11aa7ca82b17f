"""What the command line loads before it knows what to do: each command waits for that."""

import subprocess
import sys

LOADED = "import sys, api.cli.root; print(*{'fastapi', 'uvicorn', 'aiohttp', 'bpe_openai'} & set(sys.modules))"


def test_command_line_loads_no_web_server_before_it_serves() -> None:
    done = subprocess.run([sys.executable, "-c", LOADED], check=True, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == ""
