"""Works out every setting before anything is contacted: options from their layers, the server, the credentials.

Precedence: flag > environment > config file > default. `exclude` and `include` add up over all of them, so a rule on
the command line never drops a rule from a site's config.
"""

from __future__ import annotations

import getpass
import ipaddress
import json
import netrc
import os
import re
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import SplitResult, urlsplit

from xnat_ingest.core import UsageError, nearest, printable
from xnat_ingest.core.json_documents import read_text
from xnat_ingest.core.regular_file import open_regular
from xnat_ingest.core.secrets import remember_login
from xnat_ingest.settings.config_file import parse_config, read_file
from xnat_ingest.settings.options import (
    ENV_PREFIX,
    TABLE,
    ServerSettings,
    Settings,
    env_name,
    flag,
    given_text,
    is_list,
)
from xnat_ingest.settings.rule_words import split_rules
from xnat_ingest.settings.shards import SHARDS, parse_shard, shard_of_engine

# The key for --deidentify. It is a secret, so it is not an option.
DEID_KEY = f"{ENV_PREFIX}DEID_KEY"
_HOSTS = ("XNAT_HOST", "XNAT_URL", "XNAT_SERVER")
_USERS = ("XNAT_USER", "XNAT_USERNAME")
_PASSWORDS = ("XNAT_PASS", "XNAT_PASSWORD")
# The name under which `sources` keeps the server of a config file, even when another server is used.
CONFIG_SERVER = "server of the config"

# What decides which files are sent, for whom, and what is left in them. An empty value comes from a variable that is
# not set, so the run would mean something else than the user named.
_DECISIVE = (
    *("deidentify", "deid_key_file", "crosswalk", "include", "exclude", "shard", "config", "labels", "plan"),
    *("subject", "experiment"),
)
# What decides where data and credentials go, and how they are protected. As a flag it is meant, so it is not empty.
_MEANT = ("server", "user", "password_file", "dicom_host", "dicom_tls_ca", "dicom_tls_cert", "dicom_tls_key")


@dataclass(frozen=True, slots=True)
class Credentials:
    """server: address without trailing slash.
    source: where the password came from.

    The password is never shown.
    """

    server: str
    user: str
    password: str = field(repr=False)
    source: str = ""

    @property
    def in_the_clear(self) -> bool:
        """Whether the password would travel unencrypted beyond this machine."""
        parts = urlsplit(self.server)
        return parts.scheme == "http" and not is_loopback(parts.hostname or "")


# What narrows down which part of a project a command is about.
_NARROWING = ("project", "subject", "experiment")


def empty_option(values: Mapping[str, Any], *, flags: bool = False) -> str:
    """The first option that is empty and must not be; "" when none is.

    values: as they were given, by name.
    flags: they stand on the command line.
    """
    names = (*_DECISIVE, *_MEANT) if flags else _DECISIVE
    return next((name for name in names if name in values and is_empty(values[name])), "")


def is_empty(value: object) -> bool:
    """Whether a value, or one in a list, has nothing but blanks and commas."""
    values = value if isinstance(value, list) else [value]
    return any(isinstance(one, str) and not one.strip(" \t\r\n,") for one in values)


def told_empty(where: str) -> UsageError:
    """The error for an empty value at a place."""
    return UsageError(
        f"{where} is empty (a variable that is not set?). Without it the command would mean something else than you "
        "named, so nothing was done; leave it out if that is meant"
    )


def refuse_empty(settings: Settings, environ: Mapping[str, str]) -> None:
    """Raises UsageError where one of these is set and empty: a deletion would mean more than was named."""
    for name in _NARROWING:
        is_empty = name in settings.sources and not getattr(settings, name)
        if is_empty or not environ.get(env_name(name), "set").strip():
            where = f"{name} from {settings.sources[name]}" if is_empty else env_name(name)
            raise told_empty(where)


def resolve(
    command: str,
    given: Mapping[str, Any],
    environ: Mapping[str, str],
    read: Callable[[str], str] = read_file,
    *,
    shared: bool = False,
) -> Settings:
    """The settings of a run.

    given: flags as text, None where absent.
    read: a config's name -> its text.
    shared: someone other than the user can write the config. It may then set only what the option table allows.

    Raises UsageError.
    """
    names = [name for name, row in TABLE.items() if command in row.commands]
    flags = {name: given[name] for name in names if given.get(name) is not None}
    env = {name: text for name in names if (text := from_environment(environ, env_name(name)))}
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    blank = {name: text for name in names if (text := environ.get(env_name(name), "")) and name not in flags}
    if name := empty_option(blank):
        raise told_empty(env_name(name))
    path = flags.get("config") or env.get("config")
    layers: list[tuple[str, Mapping[str, Any]]] = [("environment", env), ("flag", flags)]
    if path:
        config = parse_config(read(str(path)), str(path))
        if shared:
            _refuse_forbidden_keys(config, str(path))
        if name := empty_option({name: value for name, value in config.items() if name not in flags | env}):
            raise told_empty(f"{name} in {path}")
        if "server" in config:
            sources[CONFIG_SERVER] = str(config["server"])
        layers.insert(0, (f"config {path}", _yielding_to_environment(config, environ)))
    for source, layer in layers:
        for name, raw in layer.items():
            if name not in names:
                continue  # the config file may be meant for several commands
            where = (
                env_name(name) if source == "environment" else flag(name) if source == "flag" else f"{name} in {path}"
            )
            value = _parse(name, raw, where)
            values[name] = (*values.get(name, ()), *value) if is_list(name) else value
            sources[name] = source if name not in sources or not is_list(name) else f"{sources[name]}, {source}"
    if server := values.get("server"):
        _check_server(server)  # first: settings are shown later, and an address may contain a password
    if shard := values.get("shard"):
        values["shard"] = str(shard_of_engine(environ) if shard == "auto" else parse_shard(shard))
    if values.get("no_verify") and not _skips_the_check(command, values, sources):
        values["no_verify"] = False
    return Settings(**values, sources=sources)


def _skips_the_check(command: str, values: Mapping[str, Any], sources: Mapping[str, str]) -> bool:
    """Whether --no-verify holds. `verify` is the check, and a level of proof that comes before it wins.

    Raises UsageError where both come from one place.
    """
    if command == "verify":
        return False
    if values.get("proof", "listing") == "listing":
        return True
    ranks = {"flag": 2, "environment": 1}
    proof, skipped = (ranks.get(sources[name], 0) for name in ("proof", "no_verify"))
    if proof == skipped:
        raise UsageError(f"--proof {values['proof']} and --no-verify contradict each other; give one of them")
    return proof < skipped


def _refuse_forbidden_keys(config: Mapping[str, Any], path: str) -> None:
    """Raises UsageError for options that a config which others can write may not set."""
    for name, value in config.items():
        allowed = TABLE[name].shared
        if allowed is True or (isinstance(allowed, tuple) and value in allowed):
            continue
        what = f"{name} to {printable(json.dumps(value))[:60]}" if allowed else name
        raise UsageError(
            f"config file {printable(path)} may not set {what}: other people can write that file, so it may choose "
            "rules, layout, labels and speed, but not where data goes or how it is protected. Remove the key. The file "
            f"may set {', '.join(key for key, row in TABLE.items() if row.shared)}"
        )


def _yielding_to_environment(config: dict[str, Any], environ: Mapping[str, str]) -> dict[str, Any]:
    """The config without its server or user when XNAT's own environment variables name one: those come first."""
    known = {"server": _HOSTS, "user": _USERS}
    return {name: value for name, value in config.items() if not _first("", environ, known.get(name, ()))}


def unknown_variables(environ: Mapping[str, str]) -> list[str]:
    """A sentence for each variable that looks like one of our options but is not."""
    known = [*map(env_name, TABLE), DEID_KEY, SHARDS]
    lines = []
    for name in environ:
        if name.startswith(ENV_PREFIX) and name not in known and not name.startswith(f"{ENV_PREFIX}TEST_"):
            near = nearest(name, known)
            lines.append(f"unknown setting {name}{f'; did you mean {near}?' if near else ''}")
    return lines


def from_environment(environ: Mapping[str, str], name: str) -> str:
    """A variable's value, "" when it is not given."""
    return given_text(environ.get(name, ""))


def launch_of(environ: Mapping[str, str]) -> dict[str, str]:
    """What XNAT's container service says about the launch, for the report. Empty outside a launch."""
    if "XNAT_WORKFLOW_ID" not in environ:
        return {}
    return {"workflow_id": environ["XNAT_WORKFLOW_ID"], "event_id": environ.get("XNAT_EVENT_ID", "")}


def _parse(name: str, raw: Any, where: str) -> Any:
    row = TABLE[name]
    if is_list(name):
        items = raw if isinstance(raw, list) else [raw]
        words = (word for item in items for word in (split_rules(item, where) if isinstance(item, str) else [item]))
        return tuple(words)
    text = raw if isinstance(raw, str) else json.dumps(raw)
    _check_text(text, where, is_path=row.metavar == "FILE")
    try:
        return row.parse(text)
    except ValueError as error:
        raise UsageError(f"{where}: {text!r} is not valid; it {error}") from error


def _check_text(text: str, where: str, *, is_path: bool = False) -> None:
    """Refuses bytes that are not UTF-8 (they arrive as surrogates). Only a file name may have them."""
    with suppress(UnicodeEncodeError):
        text.encode("utf-8", "surrogateescape" if is_path else "strict")
        if "\0" not in text:
            return
    raise UsageError(f"{where}: {printable(text)!r} is not valid; it must be text in UTF-8")


def refuse_bytes(secret: str, what: str) -> None:
    """The same for a text that is never shown. Raises UsageError."""
    try:
        secret.encode()
    except UnicodeEncodeError:
        raise UsageError(f"{what} must be text in UTF-8") from None  # the cause would show the text


# Each form of a password is taken out of every output. No site has longer ones.
LONGEST_PASSWORD = 4096


def credentials(settings: ServerSettings, environ: Mapping[str, str], *, http_is_warning: bool = False) -> Credentials:
    """Server, user and password, each from the first place that has it. Raises UsageError.

    http_is_warning: only warn about plain http. In the container service and with dicomUpload the user cannot choose
        the address.
    """
    server = _first(settings.server, environ, _HOSTS)
    if not server:
        raise UsageError("no server: give --server URL, or set XNAT_HOST")
    server = server.rstrip("/")
    parts = _check_server(server)
    if Credentials(server, "", "").in_the_clear and not (settings.allow_http or http_is_warning):
        raise UsageError(f"{server} would get the password in clear text; use https://, or give --allow-http")
    user = _first(settings.user, environ, _USERS)
    _check_text(server, "the server address")
    _check_text(user, "the user name")
    # Taken as it is: blanks and number signs may be part of a password.
    password, source = next(((environ[n], f"environment {n}") for n in _PASSWORDS if environ.get(n)), ("", ""))
    is_for_another = _first("", environ, _HOSTS).rstrip("/") not in ("", server)
    if settings.password_file and (is_for_another or not password):
        password, source = _read_password(settings.password_file), f"file {settings.password_file}"
    if len(password) > LONGEST_PASSWORD:
        raise UsageError(
            f"the password of {source} has more than {LONGEST_PASSWORD:,} characters: is it the right one?"
        )
    if password:
        _check_pair(settings, server, source)
    if not (user and password):
        known, place, names_host = _from_netrc(parts, user, environ)
        if known and known[1] and not password:
            if not names_host:
                _check_pair(settings, server, f"the default entry of {place}")
            source = place
        user, password = (known[0], password or known[1]) if known else (user, password)
    if not user:
        raise UsageError("no user name: give --user NAME, set XNAT_USER, or add the server to ~/.netrc")
    if not password and sys.stdin and sys.stdin.isatty():
        password, source = _typed_password(user, server), "prompt"
    if not password:
        raise UsageError("no password: set XNAT_PASS, give --password-file FILE, or add the server to ~/.netrc")
    refuse_bytes(password, f"the password ({printable(source)})")
    remember_login(user, password)
    return Credentials(server, user, password, source)


def with_password(settings: Settings, environ: Mapping[str, str], password: str) -> tuple[Settings, Mapping[str, str]]:
    """Settings and environment for a password that was given outright: no other is used in its place."""
    return replace(settings, password_file=""), {**environ, "XNAT_PASS": password}


def _typed_password(user: str, server: str) -> str:
    """ "" after Ctrl-D."""
    try:
        return getpass.getpass(f"Password of {user} on {server}: ")
    except EOFError:
        return ""
    except UnicodeDecodeError:
        raise UsageError("the password (prompt) must be text in UTF-8; the terminal sends another encoding") from None


def unverified_server(settings: ServerSettings, server: str) -> str:
    """A warning when the server's certificate is not verified, "" when it is."""
    if not (settings.insecure and server.startswith("https:")):
        return ""
    where = settings.sources.get("insecure", "")
    return (
        f"the certificate of {server} is not verified (--insecure{f', from the {where}' if where else ''}): others on "
        "the network can read the password and the images. Name the certificate to trust with --ca-bundle FILE"
    )


def _check_pair(settings: ServerSettings, server: str, source: str) -> None:
    """Raises UsageError when a password might go to the wrong server.

    That is the case when only a config file names the server and the password comes from elsewhere, or when the
    config's password file would be used for another server.
    """
    by = settings.sources.get("server", "")
    from_config = settings.sources.get("password_file", "").startswith("config ") and source.startswith("file ")
    if by.startswith("config ") and not (from_config and settings.sources["password_file"] == by):
        raise UsageError(
            f"{printable(by)} names the server {server}, but the password comes from {printable(source)} and may be "
            "meant for another server. Name the server with --server or XNAT_HOST, or put password_file into the same "
            "config"
        )
    meant = settings.sources.get(CONFIG_SERVER, server).rstrip("/")
    if from_config and meant != server:
        named = printable(settings.sources["password_file"])
        raise UsageError(
            f"{named} names the server {meant} and its password ({printable(source)}), which is not sent to {server}. "
            "Give the password with XNAT_PASS or --password-file"
        )


def has_server(settings: ServerSettings, environ: Mapping[str, str]) -> bool:
    """Whether anything names an XNAT server. A DICOM receiver can be used without one."""
    return bool(_first(settings.server, environ, _HOSTS))


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _first(given: str, environ: Mapping[str, str], names: tuple[str, ...]) -> str:
    return given or next((text for name in names if (text := from_environment(environ, name))), "")


def _check_server(server: str) -> SplitResult:
    try:
        parts = urlsplit(server)
        valid = parts.scheme in ("http", "https") and (parts.port is None or parts.port > 0)
        valid = valid and bool(re.fullmatch(r"[^\s/\\]+", parts.hostname or ""))
    except ValueError:
        valid = False
    if not valid:
        raise UsageError("the server address must look like https://xnat.example.org (with http:// or https://)")
    if parts.username is not None or parts.password is not None:
        raise UsageError("the server address contains a user name or password; set XNAT_USER and XNAT_PASS instead")
    if parts.query or parts.fragment or ";" in parts.path:
        raise UsageError("the server address must not have a ?, a # or a ; part (a ; begins a session's id)")
    return parts


def _read_password(path: str) -> str:
    first = read_text(path, "password file", pipes=True).partition("\n")[0].removesuffix("\r")
    if not first:
        raise UsageError(f"password file {path} has no first line")
    return first


_NETRC_DEFAULT = "the default entry of "


def _parse_error(error: netrc.NetrcParseError) -> str:
    """What is wrong with the file. The library's words quote what it stumbles over, which may be the password."""
    if any(word in error.msg for word in ("permissive", "owner")):
        return error.msg
    return (
        f"line {error.lineno} does not fit: an entry is machine HOST login NAME password WORD, without blanks in them"
    )


def _from_netrc(parts: SplitResult, user: str, environ: Mapping[str, str]) -> tuple[tuple[str, str] | None, str, bool]:
    """User and password from ~/.netrc or the file that NETRC names, that file, and whether the entry names the host.

    Entries are looked up by host:port, then by host, then the default. An entry for another user is not used.
    """
    path = environ.get("NETRC", "")
    shown = printable(path) or "~/.netrc"
    try:
        # A pipe without a writer would be waited for. Where there is no home, the library looks for a folder named "~".
        open_regular(path or os.path.expanduser("~/.netrc")).close()  # noqa: PTH111
        known = netrc.netrc(path or None)
    except FileNotFoundError:
        if path:
            raise UsageError(f"NETRC names {shown}, which does not exist") from None
        return None, shown, False
    except netrc.NetrcParseError as error:
        raise UsageError(f"cannot use {shown}: {_parse_error(error)}") from None
    except (OSError, RuntimeError, UnicodeDecodeError):
        raise UsageError(f"cannot use {shown}: not readable") from None
    names = (parts.netloc, parts.hostname or "", "default")
    name = next((name for name in names if name in known.hosts), "")
    found = known.hosts.get(name)
    if found is None or (user and found[0] != user):
        return None, shown, False
    return (found[0], found[2] or ""), shown, name != "default"
