"""Errors at the edge of a command: one line that tells what and why, the advice below it, an exit code."""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping
from functools import wraps
from typing import ParamSpec, TypeVar

import click

from srm_dicom import errors
from srm_dicom.errors import MdmError

P = ParamSpec("P")
R = TypeVar("R")

EXIT_CODES: Mapping[type[MdmError], int] = {
    errors.NotAuthenticated: 10,
    errors.NotAuthorised: 11,
    errors.NotFound: 12,
    errors.AlreadyExists: 13,
    errors.NotADirectory: 14,
    errors.IsADirectory: 14,
    errors.NotEmpty: 14,
    errors.Busy: 22,
    errors.InvalidRequest: 15,
    errors.NotSupported: 16,
    errors.RequestUnknown: 17,
    errors.Aborted: 18,
    errors.RequestExpired: 19,
    errors.TooLarge: 20,
    errors.BudgetExhausted: 21,
    errors.SpaceExhausted: 23,
    errors.SpaceExpired: 24,
    errors.ConfigError: 30,
    errors.NoSpace: 31,
    errors.Overloaded: 32,
    errors.IntegrityError: 33,
    errors.CatalogueUnavailable: 34,
    errors.InternalError: 35,
    errors.SourceUnavailable: 40,
    errors.SourceRefused: 41,
    errors.NotDelivered: 42,
    errors.ObjectRefused: 43,
    errors.SourceSlow: 44,
    errors.KeyServerUnavailable: 50,
    errors.KeyQuorumMissing: 51,
    errors.KeyShareInvalid: 52,
}
"""10 to 29 the caller, 30 to 39 this site, 40 to 49 a source, 50 to 59 the key servers."""


INTERRUPTED = 130
"""As a shell tells of a program that SIGINT ended."""


def exit_code(error: MdmError) -> int:
    """Return the exit code of an error."""
    return EXIT_CODES[type(error)]


def reported(command: Callable[P, R]) -> Callable[P, R]:
    """Make a command end with the message, the advice and the exit code of an error that it raises.

    What the system says of a file or of standard output is an error like any other.
    """

    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except MdmError as error:
            tell(error)
            raise SystemExit(exit_code(error)) from error
        except BrokenPipeError:
            raise  # click ends quietly: whoever reads has enough
        except OSError as error:
            told = of_the_disk(error)
            tell(told)
            raise SystemExit(exit_code(told)) from error
        except KeyboardInterrupt as error:
            raise SystemExit(INTERRUPTED) from error

    return run


def of_the_disk(error: OSError) -> MdmError:
    """Return what an error of the system is: no room, or a file that cannot be used as it was asked."""
    kind = errors.NoSpace if error.errno in (errno.ENOSPC, errno.EDQUOT) else errors.InvalidRequest
    reason = error.strerror or type(error).__name__
    return kind(f"{error.filename}: {reason}" if error.filename else reason)


def tell(error: MdmError, head: str = "error: ") -> None:
    """Write an error to standard error."""
    click.echo(f"{head}{error.message}", err=True)
    if error.advice:
        click.echo(f"       {error.advice}", err=True)
