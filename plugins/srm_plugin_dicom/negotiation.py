"""Which presentation contexts the receiver takes; pure.

Every storage service, private ones too, in every standard transfer syntax: what a PACS holds is taken
as it is, never transcoded, never refused for want of a codec. Where a context offers a choice, the
compressed syntax is taken, since that is the one the PACS holds.
"""

from __future__ import annotations

from srm_plugin_dicom.pdu import AnsweredContext, ContextAnswer, ProposedContext

VERIFICATION = "1.2.840.10008.1.1"
IMPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2"
_STANDARD = "1.2.840.10008."
_STORAGE = "1.2.840.10008.5.1.4."
_QUERY_RETRIEVE = "1.2.840.10008.5.1.4.1.2."
_ENCAPSULATED = ("1.2.840.10008.1.2.4.", "1.2.840.10008.1.2.5")


def is_storage(abstract_syntax: str) -> bool:
    """Tell whether an abstract syntax is one that objects are stored under."""
    if abstract_syntax.startswith(_STANDARD):
        return abstract_syntax.startswith(_STORAGE) and not abstract_syntax.startswith(_QUERY_RETRIEVE)
    return True


def is_encapsulated(transfer_syntax: str) -> bool:
    """Tell whether pixel data are compressed in a transfer syntax."""
    return transfer_syntax.startswith(_ENCAPSULATED)


def answer(proposed: ProposedContext) -> AnsweredContext:
    """Accept a context in one of its transfer syntaxes, or say what is wrong with it."""
    if proposed.abstract_syntax != VERIFICATION and not is_storage(proposed.abstract_syntax):
        return AnsweredContext(proposed.id, ContextAnswer.ABSTRACT_SYNTAX, IMPLICIT_LITTLE_ENDIAN)
    known = [uid for uid in proposed.transfer_syntaxes if _is_known(uid)]
    if not known:
        return AnsweredContext(proposed.id, ContextAnswer.TRANSFER_SYNTAXES, IMPLICIT_LITTLE_ENDIAN)
    chosen = next(filter(is_encapsulated, known), known[0])
    return AnsweredContext(proposed.id, ContextAnswer.ACCEPTED, chosen)


def _is_known(transfer_syntax: str) -> bool:
    return f"{transfer_syntax}.".startswith(f"{IMPLICIT_LITTLE_ENDIAN}.")
