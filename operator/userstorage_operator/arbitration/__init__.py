"""Arbitration: which UserStorage gets a thing that only one, or a limited number, can have.

There is one file and one condition reason for each such thing:

| file | thing | reason | where its message is written |
|---|---|---|---|
| `user_id.py` | a user id in a namespace | UserIDConflict | `reconcile/observe.py: _without_user_id` |
| `claim.py` | a PersistentVolumeClaim, or a directory of a shared one | ClaimInUse | `status/storage_ready.py: _in_use_message` |
| `host.py` | a host with a path and those below it | HostConflict | `arbitration/host.py: conflict` |
| `quota.py` | a place in `limits.maxPerNamespace` of a class | QuotaExceeded | `reconcile/observe.py: _take_place` |

Each file has up to three parts:

- A function that every reconcile calls: `conflict`, `holder` or `take_place`. It is a pure function over the `Lister` and sends
  no request. The order of precedence is the same everywhere: a UserStorage that already has the thing, then the oldest.
- An index that `informers.caches.Caches` updates on every event. `update(raw, exists=…)` indexes one UserStorage, `is_owner`
  says which one has the thing as far as the index knows, and `affected_keys` returns the other UserStorages that compete for
  it. `Caches` adds these to the queue. An update takes O(log n): thousands of UserStorages may compete for a user id or a
  claim.
- `ClaimReservations`, if a reconcile grants the thing before a child shows it: `reserve` when it is granted, `release` when it is
  free.

`host.py` is decided in its index: whether a path is taken depends on the owners above and below it, and so on those that wait no
more. `update` returns who got or lost a host, and `conflict` reads the index.

`quota.py` is decided in its index too, which also keeps the places that a reconcile has taken. One change moves at most one
UserStorage across the limit, so `update` returns few, whatever their number.

`user_id.py` comes first: only the owner of a user id can have a pod, and with it a claim or a host. `UserIDIndex.update`
therefore returns each `OwnerChange`. `Caches` then also requeues the UserStorages that compete with the previous or the new
owner.

To add a fifth thing:

1. Write a file here, with the function and the index.
2. Add a method to `lister.py: Lister` that returns the UserStorages that compete for the thing, such as `claimants`, and
   implement it in `informers/caches.py: Caches`.
3. Update the index in `Caches._storage_changed` and `Caches._owners_changed`. If the class takes part in the decision, also
   update it in `Caches._class_changed`. If a child decides who has the thing, requeue the others in `Caches._child_changed`,
   and in `Caches.put`, which gets the child as the response to our own write.
4. Call the function in `reconcile/observe.py: _arbitrate`. Put the result into a field of `Snapshot` (`observed/snapshot.py`),
   or into its `spec_error` if nothing may be done for the UserStorage.
5. Add the reason to `api/reasons.py`. `docs/api-reference.md` is generated from it.
6. Write the message: beside the error for `spec_error` (`reconcile/observe.py`), else in `status/`, at the condition that
   reports it.
"""
