"""The claim that held the files and is gone: known from `status.storage`, so that no other claim is passed off as it.

This is the one report of an earlier reconcile that a later one reads: for a warning, and for waiting (docs/semantics.md#lost-claims).
If the status is lost, no claim is known, and a missing claim is created as for a new user.
"""

from dataclasses import dataclass

from userstorage_operator.api.userstorageclass import OnClaimLoss
from userstorage_operator.observed.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class ClaimIdentity:
    """A claim with its volume. Without a volume a claim never held files, and has no identity worth remembering."""

    uid: str
    volume: str


def lost_claim(snapshot: Snapshot) -> ClaimIdentity | None:
    """Return the claim that held the files and no longer exists, until `spec.storage.acceptedClaimLoss` names it.

    Returns None if no claim was lost, as far as the status knows. Another claim on the same volume is no loss.
    """
    return next(iter(lost_claims(snapshot)), None)


def lost_claims(snapshot: Snapshot) -> list[ClaimIdentity]:
    """Return all such claims, the one that was lost first coming first: each loss has to be accepted."""
    if snapshot.storage.is_deleting or snapshot.claim_context.claim_read_error is not None:
        return []
    return [claim for claim in _known_claims(snapshot) if _is_lost(claim, snapshot)]


def waits_for_consent(snapshot: Snapshot) -> bool:
    """Whether the claim was lost, and the class asks to create no other one, and to start no pod on one that another client has
    created, before that is accepted.
    """
    return snapshot.cls is not None and snapshot.cls.on_claim_loss is OnClaimLoss.WAIT and lost_claim(snapshot) is not None


def _is_lost(known: ClaimIdentity, snapshot: Snapshot) -> bool:
    claim = snapshot.children.pvc
    if known.uid == snapshot.storage.storage.accepted_claim_loss:
        return False
    return claim is None or (claim["metadata"]["uid"] != known.uid and claim["spec"].get("volumeName") != known.volume)


def _known_claims(snapshot: Snapshot) -> list[ClaimIdentity]:
    """Return the claims that `status.storage` knows, the one that was lost first coming first."""
    storage = snapshot.status.get("storage") or {}
    lost = storage.get("lostClaim") or {}
    pairs = ((lost.get("uid"), lost.get("volumeName")), (storage.get("claimUID"), storage.get("volumeName")))
    return [ClaimIdentity(uid, volume) for uid, volume in pairs if uid and volume]
