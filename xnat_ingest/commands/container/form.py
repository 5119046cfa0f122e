"""The values of a launch, as the container service passes them on. All are texts, and none can be trusted."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields

from xnat_ingest.core import UsageError, printable
from xnat_ingest.settings.options import given_text, switch

CONFIGS = "XNAT-INGEST-CONFIG"
LAYOUTS = ("auto", "subject/session", "session", "headers")
DESTINATIONS = ("auto", "archive", "prearchive")
PROFILES = ("auto", "basic", "research-mr", "dates-kept")


@dataclass(frozen=True, slots=True)
class LaunchInputs:
    """The values of a launch, "" where none was given.

    input: the mounted folder
    source_uri, parent_uri: addresses of the mounted resource and of the object launched from
    config: a file's name in the project's resource CONFIGS
    repeated: fields that the command line gives more than once
    """

    input: str = "/input"
    source_uri: str = ""
    parent_uri: str = ""
    sub_path: str = ""
    layout: str = "auto"
    subject_label: str = ""
    session_label: str = ""
    exclude: str = ""
    config: str = ""
    destination: str = "auto"
    existing: str = "resume"
    dry_run: str = "false"
    deidentify: str = "auto"
    stray: tuple[str, ...] = ()
    repeated: tuple[str, ...] = ()

    @classmethod
    def read(cls, given: Mapping[str, Sequence[str] | None], stray: Sequence[str] = ()) -> LaunchInputs:
        """Takes the form's values from a command line.

        given: field -> value
        stray: words that belong to no field
        """
        values = {name: text for name, raw in given.items() if raw and (text := given_text(raw[0]))}
        repeated = tuple(name for name, raw in given.items() if raw and len(raw) > 1)
        return cls(**values, stray=tuple(stray), repeated=repeated)

    def check_addresses(self) -> None:
        """Raises UsageError when it is not clear what the command was launched from."""
        self._refuse_repeated({"parent_uri", "source_uri"})

    def _refuse_repeated(self, names: Collection[str]) -> None:
        if found := next((name for name in self.repeated if name in names), ""):
            raise UsageError(
                f"the launch's line gives --{found.replace('_', '-')} more than once. A quote (') in a field or in the "
                "name of a resource does that: whoever wrote it may not choose the values of other fields"
            )

    def check(self) -> None:
        """Raises UsageError. A launch by REST may send any text, and a quote splits a value into words."""
        self._refuse_repeated(FIELDS)
        if self.stray:
            raise UsageError(
                f"the launch's line has words that belong to no field: {printable(' '.join(self.stray))}. A quote (') "
                f"in a field does that: put such rules into a configuration file in the project's resource {CONFIGS}"
            )
        for name, known in (("layout", LAYOUTS), ("destination", DESTINATIONS), ("deidentify", PROFILES)):
            if (value := getattr(self, name)) not in known:
                raise UsageError(f"{name} {printable(value)!r} is not valid; it is one of {', '.join(known)}")

    @property
    def is_dry(self) -> bool:
        try:
            return switch(self.dry_run)
        except ValueError as error:
            raise UsageError(f"dry-run {self.dry_run!r} is not valid; it {error}") from error


FIELDS = tuple(field.name for field in fields(LaunchInputs) if field.name not in ("stray", "repeated"))
