"""Arbitration: which UserStorage gets a thing that only one, or a limited number, can have.

One file for each contended thing, and one condition reason from each:

- `user_id.py`: a user id in a namespace. UserIDConflict.
- `claim.py`: a PersistentVolumeClaim. ClaimInUse.
- `host.py`: a host with a path. HostConflict.
- `quota.py`: `limits.maxPerNamespace` of a class. QuotaExceeded.

All have the same shape:

- A question that each reconcile asks: `conflict`, `holder` or `exceeded`. It is a pure function over the `Lister` and sends no
  request. The order of precedence is the same everywhere: a UserStorage that already has the thing, then the oldest.
- An index that `informers.caches.Caches` updates on every event. `update(raw, exists=…)` indexes one UserStorage, `is_owner`
  reports the owner as far as the index knows it, and `affected_keys` returns the UserStorages whose answer may change. `Caches` adds
  these keys to the queue. An update takes O(log n): a user id or a claim may have thousands of claimants.
- `Reservations`, if a reconcile grants the thing before a child shows it: `reserve` when it is granted, `release` when it is free.

`quota.py` has no index: its claimants are the UserStorages of the namespace, and `reconcile/rollout_tracker.py`, which counts the
members of each class, requeues those that wait.

`user_id.py` comes first: only the owner of a user id can have a pod, and so a claim or a host. `UserIDIndex.update` therefore
returns each `OwnerChange`, after which `Caches` also requeues those that compete with the previous and the new owner.

To add a fifth thing, write a file with the question and the index, update the index in `Caches._storage_changed` and
`Caches._owners_changed`, and ask the question in `reconcile/observe.py`.
"""
