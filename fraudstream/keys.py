"""Commands on API keys and access keys, in the files of the API; it need not run."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from rich.console import Console
from rich.table import Table

from fraud.runtime.command_line import failing
from fraud.runtime.files import FileDamaged
from fraud.runtime.lifecycle import load_settings
from fraud.runtime.settings import ServiceSettings
from fraud.security.api_keys import (
    MAX_KEYS,
    NAME_PATTERN,
    KeyNameTaken,
    KeyStore,
    LastAdminKey,
    NoSuchKey,
    Role,
    TooManyKeys,
)
from fraud.security.audit import AuditLog, at_the_command_line
from fraud.security.aws_credentials import (
    AwsCredentials,
    NoSuchProfile,
    ProfileTaken,
)

S = TypeVar("S")

app = typer.Typer(help="Make, list and revoke keys of the REST API.", no_args_is_help=True)


def _opened(store: Callable[[Path], S]) -> tuple[S, AuditLog]:
    folder = load_settings(ServiceSettings).state_dir
    try:
        return store(folder), AuditLog(folder)
    except FileDamaged as problem:
        raise failing(str(problem)) from None


@app.command("create")
def create(
    name: Annotated[str, typer.Argument(help="Who will use it.")],
    role: Annotated[str, typer.Option(help="score, analyst or admin.")] = "score",
) -> None:
    """Create a key and print its secret, which is shown only this once."""
    if role not in set(Role):
        raise failing(f"--role: expected one of {', '.join(Role)}")
    if not re.fullmatch(NAME_PATTERN, name, re.ASCII):
        raise failing(
            "name: expected 1 to 64 letters, digits, spaces, _, ., @ and -, the first a letter or digit"
        )
    store, audit = _opened(KeyStore)
    who = at_the_command_line()
    try:
        with audit.change(who, "key.created", f"key/{name}", after={"name": name, "role": role}):
            _, secret = store.create(name, Role(role), who.name)
    except KeyNameTaken:
        raise failing(f"name: expected one that no other key has, {name} is taken") from None
    except TooManyKeys:
        raise failing(f"there are {MAX_KEYS} keys already; revoke one first") from None
    typer.echo(secret)


@app.command("list")
def list_keys() -> None:
    """List all keys, without their secrets."""
    store, _ = _opened(KeyStore)
    table = Table("id", "name", "role", "made at", "made by")
    for key in store.all_keys():
        table.add_row(
            key.id, key.name, key.role, key.created_at.isoformat(timespec="seconds"), key.created_by
        )
    Console().print(table)


@app.command("revoke")
def revoke(key_id: Annotated[str, typer.Argument(help="As `list` shows it.")]) -> None:
    """Revoke a key; running APIs refuse it from the next request on."""
    store, audit = _opened(KeyStore)
    try:
        key = store.get(key_id)
        before = key.model_dump(mode="json", include={"id", "name", "role"})
        with audit.change(at_the_command_line(), "key.revoked", f"key/{key.name}", before=before):
            store.revoke(key_id)
    except NoSuchKey:
        raise failing(f"unknown key: {key_id}; see fraudstream keys list") from None
    except LastAdminKey:
        raise failing("it is the last key of role admin: make another first") from None
    typer.echo(f"{key_id} ({key.name}) is revoked.")


access_keys = typer.Typer(
    help="Access keys of clients of Amazon Fraud Detector.", no_args_is_help=True
)
app.add_typer(access_keys, name="aws")


@access_keys.command("create")
def create_access_key(
    profile: Annotated[str, typer.Argument(help="Name of the profile in the file.")],
    role: Annotated[str, typer.Option(help="score, analyst or admin.")] = "score",
) -> None:
    """Create an access key, and print its id and the file that holds its profile."""
    if role not in set(Role):
        raise failing(f"--role: expected one of {', '.join(Role)}")
    store, audit = _opened(AwsCredentials)
    after = {"profile": profile, "role": role}
    try:
        with audit.change(
            at_the_command_line(), "access_key.created", f"access_key/{profile}", after=after
        ):
            made = store.create(profile, Role(role))
    except ProfileTaken:
        raise failing(f"profile: expected one that is not there yet, {profile} is") from None
    except ValueError as problem:
        raise failing(str(problem)) from None
    typer.echo(f"{made.access_key_id}, profile {profile} of {store.path}")


@access_keys.command("list")
def list_access_keys() -> None:
    """List all access keys, without their secrets."""
    store, _ = _opened(AwsCredentials)
    table = Table("profile", "access key id", "role")
    for one in store.all():
        table.add_row(one.profile, one.access_key_id, one.role)
    Console().print(table)


@access_keys.command("revoke")
def revoke_access_key(profile: Annotated[str, typer.Argument(help="As `list` shows it.")]) -> None:
    """Revoke an access key; running APIs refuse it from the next request on."""
    store, audit = _opened(AwsCredentials)
    try:
        with audit.change(at_the_command_line(), "access_key.revoked", f"access_key/{profile}"):
            store.revoke(profile)
    except NoSuchProfile:
        raise failing(f"unknown profile: {profile}; see fraudstream keys aws list") from None
    typer.echo(f"{profile} is revoked.")
