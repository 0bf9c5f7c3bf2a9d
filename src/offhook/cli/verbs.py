"""The verbs. Each gathers its options, calls what does the work, and prints."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shlex
import signal
import sys
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from offhook import __version__
from offhook.cli import calling, reloading, testing
from offhook.cli.bench import bench
from offhook.cli.doctor import doctor
from offhook.cli.where import NoServer, Where, find
from offhook.server import logs, tls
from offhook.server.app import Server
from offhook.server.config import ConfigError, Settings
from offhook.server.processes import first_of
from offhook.server.reloading import ReadAnew
from offhook.server.supervisor import CannotStart, Supervisor
from offhook.testing.caller import CallerError

app = typer.Typer(
    name="offhook",
    help="Call audio streaming on your own machine, for code written with the Azure Communication Services SDKs.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

ServerOption = Annotated[str | None, typer.Option("--server", help="URL of the server; default: the one running here.")]
KeyOption = Annotated[str | None, typer.Option("--key", help="Access key, base64; default: the running server's.")]
DataDirOption = Annotated[Path | None, typer.Option("--data-dir", help="Data directory of the server.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of text for people.")]


def _fail(message: object) -> NoReturn:
    print(f"offhook: {message}", file=sys.stderr)
    raise typer.Exit(2)


def _run(main: Coroutine[Any, Any, int]) -> None:
    """Run a client verb; what it is refused is one line, not a traceback."""
    try:
        code = asyncio.run(main)
    except (CallerError, ConfigError, NoServer, OSError, ValueError) as error:
        _fail(error)
    except KeyboardInterrupt:
        code = 130
    raise typer.Exit(code)


@app.callback(invoke_without_command=True)
def _offhook(version: Annotated[bool, typer.Option("--version", help="Print the version and leave.")] = False) -> None:
    if version:
        print(__version__)
        raise typer.Exit


# ------------------------------------------------------------------------------------------------ the server


@app.command()
def serve(
    config: Annotated[Path | None, typer.Option(help="TOML file; see docs/configuration.md.")] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on; loopback means development.")] = None,
    http: Annotated[str | None, typer.Option(help="Port for http (default 7080; 0: a free one; off).")] = None,
    https: Annotated[str | None, typer.Option(help="Port for https (default 7443; 0: a free one; off).")] = None,
    name: Annotated[list[str] | None, typer.Option(help="One more DNS name or address in the certificate.")] = None,
    tls_cert: Annotated[Path | None, typer.Option(help="Certificate chain to serve, PEM.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Its private key, PEM.")] = None,
    ca: Annotated[Path | None, typer.Option(help="PEM to trust for callbacks and media sockets, too.")] = None,
    key: Annotated[list[str] | None, typer.Option(help="Access key, base64; give two to rotate.")] = None,
    incoming: Annotated[list[str] | None, typer.Option(help="Event Grid endpoint for IncomingCall.")] = None,
    data_dir: DataDirOption = None,
    workers: Annotated[
        int | None, typer.Option(help="Media worker processes (default on Linux: one per core).")
    ] = None,
    allow_private: Annotated[list[str] | None, typer.Option(help="CIDR that production may dial.")] = None,
    sip: Annotated[int | None, typer.Option(help="Port for SIP telephones, UDP and TCP.", min=0, max=65535)] = None,
    sips: Annotated[int | None, typer.Option(help="Port for SIP telephones, TLS.", min=0, max=65535)] = None,
) -> None:
    """Run the server until it is told to stop."""
    given = {
        "host": host,
        "http": http,
        "https": https,
        "names": name,
        "tls_cert": tls_cert,
        "tls_key": tls_key,
        "ca": ca,
        "keys": key,
        "incoming": incoming,
        "data_dir": data_dir,
        "workers": workers,
        "allow_private": allow_private,
        "sip": {key: port for key, port in (("port", sip), ("tls_port", sips)) if port is not None} or None,
    }
    load = partial(Settings.load, config, **{k: v for k, v in given.items() if v is not None and v != []})
    logs.begin()
    try:
        settings = load()
    except ConfigError as error:
        _fail(error)
    try:
        _run(_serve(settings, load))
    except CannotStart as error:
        _fail(error)


async def _serve(settings: Settings, again: Callable[[], Settings]) -> int:
    """Serve until SIGTERM, then until the last call is over; or until SIGINT, a second SIGTERM, or the server's end.

    SIGHUP: what `again` returns is taken by the running server.
    """
    asked = asyncio.Event()
    at_once = asyncio.Event()
    loop = asyncio.get_running_loop()

    def stop(number: int) -> None:
        if number == signal.SIGINT or asked.is_set():
            at_once.set()
        asked.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        try:
            loop.add_signal_handler(number, stop, number)
        except NotImplementedError:  # Windows
            signal.signal(number, lambda number, _: loop.call_soon_threadsafe(stop, number))
    async with Supervisor(settings) if settings.workers else Server(settings) as server:
        if hasattr(signal, "SIGHUP"):
            loop.add_signal_handler(signal.SIGHUP, _reload, server, again)
        print(json.dumps(server.ready()), flush=True)
        print(_welcome(server), file=sys.stderr)
        await first_of(asked.wait(), server.ended.wait())
        if not server.ended.is_set() and not at_once.is_set():
            print("no new calls are taken; a second SIGTERM ends those under way", file=sys.stderr)
            await first_of(at_once.wait(), server.ended.wait(), server.drain())
        return int(server.ended.is_set())


def _reload(server: Server | Supervisor, again: Callable[[], Settings]) -> None:
    try:
        read = server.reload(again())
    except ConfigError as error:
        read = ReadAnew(problems=error.problems)
    server.tell_of_reload(read)


def _welcome(server: Server | Supervisor) -> str:
    settings = server.settings
    lines = [f"Offhook {__version__}, {settings.profile} profile (bound to {settings.host})"]
    if settings.profile == "development":
        lines += [
            f"  connection string  endpoint={server.url}/;accesskey={server.keys[0]}",
            '  for an SDK         eval "$(offhook env)"      other forms: offhook keys',
            "  place a call       offhook call +15550199",
            f"  talk to your bot   {server.plain_url or server.url}/phone",
        ]
        if not settings.endpoints():
            lines.append("  no --incoming URL: incoming calls reach no app yet, only apps that call out work")
    if telephones := [uri for uri in server.sip_uris.values() if uri is not None]:
        lines.append(f"  telephones         {'      '.join(telephones)}")
    return "\n".join(lines)


# ------------------------------------------------------------------------------------------------ parties


@app.command()
def call(
    to: Annotated[str, typer.Argument(help="E.164 number, raw id, or bare name.")],
    from_: Annotated[str, typer.Option("--from", help="Who calls.")] = "+15550100",
    wav: Annotated[Path | None, typer.Option(help="Sound file to play, at its own rate.")] = None,
    say: Annotated[str | None, typer.Option(help="Text to say (needs the extra [speech]).")] = None,
    dtmf: Annotated[str | None, typer.Option(help="Keys to press: 0-9 * # A-D.")] = None,
    record: Annotated[Path | None, typer.Option(help="Mono WAV of what the caller hears.")] = None,
    seconds: Annotated[float | None, typer.Option(min=0.1, max=86_400, help="Hang up after so long.")] = None,
    rate: Annotated[
        int, typer.Option(help="Hz of the call's audio and of --record: 8000, 16000, 24000, 48000.")
    ] = 24_000,
    weather: Annotated[str | None, typer.Option(help="SEED of a mix of faults, or SEED,KEY=VALUE,… for some.")] = None,
    json_: JsonOption = False,
    server: ServerOption = None,
    key: KeyOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Call an app as a simulated caller; hang up after --seconds, or when all was played and pressed."""
    script = calling.Script(wav=wav, say=say, dtmf=dtmf, record=record, seconds=seconds, rate=rate)
    _run(calling.call(lambda: find(server, key, data_dir), to, from_, script, json_, weather))


@app.command()
def phone(
    id: Annotated[str, typer.Argument(help="E.164 number, raw id, or bare name to be called under.")],
    wav: Annotated[Path | None, typer.Option(help="Sound file to play once a call is answered.")] = None,
    say: Annotated[str | None, typer.Option(help="Text to say (needs the extra [speech]).")] = None,
    record: Annotated[Path | None, typer.Option(help="Mono WAV of what the phone hears (of the last call).")] = None,
    decline: Annotated[str | None, typer.Option(help="Do not answer: busy, declined or no-answer.")] = None,
    seconds: Annotated[float | None, typer.Option(min=0.1, max=86_400, help="Hang up after so long.")] = None,
    calls: Annotated[int, typer.Option(min=0, help="Leave after so many calls; 0: never.")] = 0,
    rate: Annotated[int, typer.Option(help="Hz of the call's audio and of --record.")] = 24_000,
    json_: JsonOption = False,
    server: ServerOption = None,
    key: KeyOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Wait for calls to ID as a simulated phone, and answer or decline them."""
    if decline not in (None, "busy", "declined", "no-answer"):
        _fail(f"--decline {decline}: busy, declined or no-answer")
    script = calling.Script(wav=wav, say=say, record=record, seconds=seconds, rate=rate)
    _run(calling.phone(lambda: find(server, key, data_dir), id, script, decline, calls, json_))


@app.command()
def bot(
    kind: Annotated[calling.BotKind, typer.Argument(help="Which one.")],
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0: a free one.")] = 0,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    out: Annotated[Path, typer.Option(help="Folder for what `record` writes.")] = Path("."),
) -> None:
    """Run a reference app for the WebSocket side: any path is accepted."""
    _run(calling.bot(kind, host, port, out))


# ------------------------------------------------------------------------------------------------ set-up


@app.command()
def keys(
    json_: JsonOption = False,
    server: ServerOption = None,
    key: KeyOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Print connection strings in the form that each SDK takes."""
    strings = _find(server, key, data_dir).connection_strings()
    if json_:
        print(json.dumps(strings))
        return
    for label, text in strings.items():
        print(f"{label:<12}{text}")
    if "js-http" in strings:
        print("# js-http needs the client option allowInsecureConnection: true")


@app.command()
def env(
    json_: JsonOption = False,
    data_dir: DataDirOption = None,
) -> None:
    """Print the exports that point an SDK here: trust, without losing the public roots, and how to sign in."""
    settings = Settings.load(**({"data_dir": data_dir} if data_dir else {}))
    made = tls.ensure(settings.data_dir, settings.names)
    variables = {
        "REQUESTS_CA_BUNDLE": str(made.bundle),  # Python, sync client
        "SSL_CERT_FILE": str(made.bundle),  # Python, aio client; anything on OpenSSL
        "NODE_EXTRA_CA_CERTS": str(made.ca),  # JavaScript: on top of the roots that Node brings
    }
    with contextlib.suppress(NoServer):
        where = find(None, None, settings.data_dir)
        strings = where.connection_strings()
        variables["ACS_CONNECTION_STRING"] = strings.get("https") or strings["python-http"]
        variables["ACS_ENDPOINT"] = where.https or where.url
        variables |= where.identity()
    if json_:
        print(json.dumps(variables))
        return
    for variable, value in variables.items():
        print(f"export {variable}={shlex.quote(value)}")
    ca = shlex.quote(str(made.ca))
    print(f"# .NET on Linux reads SSL_CERT_FILE. Java: keytool -importcert -alias offhook -file {ca}")


def _find(server: str | None, key: str | None, data_dir: Path | None) -> Where:
    try:
        return find(server, key, data_dir)
    except (NoServer, ConfigError) as error:
        _fail(error)


# ------------------------------------------------------------------------------------------------ the product, shown


@app.command()
def demo(
    json_: JsonOption = False,
    play: Annotated[bool, typer.Option("--play", help="Play what the caller heard, at the end.")] = False,
    out: Annotated[Path, typer.Option(help="Folder for the two recordings and the picture.")] = Path("."),
) -> None:
    """Hold one whole call: an app on the official SDK, a talking bot, a caller who interrupts it."""
    try:
        from offhook.cli import showing
    except ModuleNotFoundError as error:
        _fail(f"{error.name} is missing; the demo needs: pip install 'offhook[demo]'")
    _run(showing.demo(out, json_, play))


app.command("test")(testing.run)
app.command()(bench)
app.command()(doctor)
app.command()(reloading.reload)
