"""What the receiver accepts: storage classes and transfer syntaxes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from pydicom.uid import (
    JPEG2000,
    JPEG2000MC,
    MPEG2MPML,
    UID,
    AllTransferSyntaxes,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEG2000MCLossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)
from pynetdicom import AE, AllStoragePresentationContexts
from pynetdicom.presentation import PresentationContext

VERIFICATION = "1.2.840.10008.1.1"

XNAT_SYNTAXES: tuple[str, ...] = (
    ExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    JPEG2000Lossless,
    JPEG2000,
    JPEG2000MCLossless,
    JPEG2000MC,
    "1.2.840.10008.1.2.4.94",
    "1.2.840.10008.1.2.4.95",
    MPEG2MPML,
    RLELossless,
)
"""What XNAT 1.8 accepts of what files are encoded in: no deflated, MPEG-4, HEVC or HTJ2K data sets."""

ALL_SYNTAXES: tuple[str, ...] = (*XNAT_SYNTAXES, *(one for one in AllTransferSyntaxes if one not in XNAT_SYNTAXES))

PRIVATE_CLASSES = (
    "1.3.12.2.1107.5.9.1",
    "1.3.46.670589.2.3.1.1",
    "1.3.46.670589.2.4.1.1",
    "1.3.46.670589.5.0.1",
    "1.3.46.670589.5.0.2",
    "1.3.46.670589.5.0.2.1",
    "1.3.46.670589.5.0.3",
    "1.3.46.670589.5.0.3.1",
    "1.3.46.670589.5.0.4",
    *(f"1.3.46.670589.5.0.{number}" for number in range(7, 13)),
    "1.3.46.670589.11.0.0.12.1",
    "1.3.46.670589.11.0.0.12.2",
    "1.3.46.670589.11.0.0.12.4",
)
"""Storage classes of two manufacturers, which XNAT takes beside the standard's."""


class _Context(PresentationContext):
    """A context that is cheap to copy. The library copies all of them, deeply, for each association."""

    def __deepcopy__(self, memo: dict[int, object]) -> _Context:
        copied = _Context()
        vars(copied).update(vars(self), _transfer_syntax=list(self._transfer_syntax))
        return copied


@cache
def supported(classes: tuple[str, ...], syntaxes: tuple[str, ...]) -> list[PresentationContext]:
    """A context for each class, with all of the syntaxes; and one for C-ECHO."""
    echo = (VERIFICATION, (ImplicitVRLittleEndian, ExplicitVRLittleEndian))
    return [_context(*echo), *(_context(one, syntaxes) for one in dict.fromkeys(classes))]


def _context(abstract_syntax: str, syntaxes: Sequence[str]) -> PresentationContext:
    made = _Context()
    made.abstract_syntax = UID(abstract_syntax)
    made._transfer_syntax = [UID(one) for one in syntaxes]  # its setter checks each of them, hundreds of times
    return made


STORAGE = tuple(str(context.abstract_syntax) for context in AllStoragePresentationContexts)


def entity(ae_title: str, check_title: bool) -> Any:
    """An application entity of this name."""
    made = AE(ae_title)
    made.require_called_aet = check_title
    made.maximum_associations = 1000
    return made


def xnat_contexts(syntaxes: Sequence[str]) -> list[PresentationContext]:
    """Every storage class in every of these syntaxes; of several offered, the first of our own list wins."""
    return supported((*STORAGE, *PRIVATE_CLASSES), tuple(syntaxes))
