"""nft-browse: look at what a run answered."""

from __future__ import annotations

import argparse
import importlib.util
import socket
import sys
import webbrowser
from pathlib import Path

from nft_lightning.cli.entry import guarded, take_debug_flag
from nft_lightning.errors import UserError

HELP = (
    "Look at a run's rollouts and evaluations in a local page: filter, compare answers, colour tokens."
)
PORT = 8421
NEEDED = ("starlette", "uvicorn")


def parser() -> argparse.ArgumentParser:
    """Return the parser of nft-browse."""
    made = argparse.ArgumentParser("nft-browse", description=HELP)
    made.add_argument("run", type=Path, metavar="RUN", help="a run folder, finished or still training")
    made.add_argument(
        "--port", type=int, default=PORT, metavar="N", help=f"default {PORT}; 0 is any free one"
    )
    made.add_argument("--no-open", action="store_true", help="do not open the browser")
    made.add_argument(
        "--device",
        default="cpu",
        metavar="D",
        help="where tokens are scored for their colours: cpu, cuda, auto",
    )
    return made


def listening(port: int) -> socket.socket:
    """Return a socket of the loopback interface. Raises UserError: it cannot be had."""
    if not 0 <= port <= 65535:
        raise UserError("--port", port, "is no port", "use 0 to 65535")
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind(("127.0.0.1", port))
        made.listen(128)
    except OSError as error:
        made.close()
        reason = f"cannot be listened on ({error.strerror})"
        raise UserError("--port", port, reason, "give another, or --port 0 for any free one") from error
    return made


def run(given: argparse.Namespace) -> None:
    """The command, arguments parsed; serves until it is interrupted."""
    missing = [n for n in NEEDED if importlib.util.find_spec(n) is None]
    if missing:
        raise UserError(
            "nft-browse",
            " and ".join(missing),
            "is needed and not installed",
            "run in the clone: pip install '.[browse]'",
        )
    import uvicorn

    from nft_lightning.app.device import usable_device
    from nft_lightning.app.quiet import quiet_libraries
    from nft_lightning.browse.app import make_app

    quiet_libraries()
    app = make_app(given.run, str(usable_device("--device", given.device)))
    with listening(given.port) as made:
        address = f"http://127.0.0.1:{made.getsockname()[1]}/"
        sys.stdout.write(f"{address} shows {given.run}; Ctrl-C ends it.\n")
        sys.stdout.flush()
        if not given.no_open:
            webbrowser.open(address)
        uvicorn.Server(uvicorn.Config(app, log_level="warning", server_header=False)).run([made])


def main() -> None:
    """The console command."""
    debug = take_debug_flag(sys.argv)
    given = parser().parse_args()
    guarded(lambda: run(given), debug)


if __name__ == "__main__":
    main()
