"""The mutants: for each invariant of the operator, a change of its code that breaks it, and the tests that must notice.

An edit is the text of a file of `userstorage_operator` and what replaces it. The text must occur exactly once: an edit that does not
fit the code any more is an error, not a mutant that was caught.
"""

from dataclasses import dataclass

MODEL = "tests/model/test_reconciler_model.py"
HISTORIES = "tests/model/test_histories.py"


@dataclass(frozen=True, slots=True)
class Edit:
    """One replacement in one file, named relative to `userstorage_operator/`."""

    file: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Mutant:
    """A broken operator, and the tests of which at least one must fail on it."""

    name: str
    breaks: str
    edits: tuple[Edit, ...]
    tests: tuple[str, ...] = (HISTORIES, MODEL)


MUTANTS = (
    Mutant(
        "no uid check",
        "only our own children are written",
        (
            Edit(
                "observed/snapshot.py",
                "    return controller_uid(child) == uid\n",
                "    return controller(child) is not None\n",
            ),
        ),
    ),
    Mutant(
        "foreign objects adopted by name",
        "a foreign object that has the name of a child is never changed",
        (
            Edit(
                "plan/planner.py",
                "    return _is_ours(kind, child, snapshot) or (kind is not Kind.PVC and is_adoptable(child, snapshot.storage))\n",
                "    return True\n",
            ),
        ),
    ),
    Mutant(
        "patches without preconditions",
        "no later change of another client is overwritten",
        (
            Edit(
                "reconcile/children.py",
                '    precondition = {"uid": meta["uid"], "resourceVersion": meta["resourceVersion"]}\n',
                "    precondition: dict[str, str] = {}\n",
            ),
        ),
    ),
    Mutant(
        "no fence",
        "only the leader writes",
        (
            Edit(
                "kube/write_gate.py",
                "        remaining = 0.0 if self._closed else self.fence.remaining()\n",
                '        remaining = float("inf")\n',
            ),
        ),
        ("tests/unit/test_write_gate.py",),
    ),
    Mutant(
        "lease taken before it expires",
        "at most one process leads",
        (
            Edit(
                "election/elector.py",
                "        if not released and read_at - self._changed_at < LEASE_DURATION:\n",
                "        if not released and read_at - self._changed_at < LEASE_DURATION / 3:\n",
            ),
        ),
        ("tests/unit/test_elector.py",),
    ),
    Mutant(
        "status always written",
        "no writes in steady state",
        (Edit("reconcile/reconciler.py", "        if not patch or (due := ", "        if (due := "),),
    ),
    Mutant(
        "ready without a ready pod",
        "the status is true",
        (
            Edit(
                "status/conditions.py",
                "        if pod_status.is_ready(pod):\n            return None\n        if outcome",
                "        if pod_status.is_ready(pod) or True:\n            return None\n        if outcome",
            ),
        ),
    ),
    Mutant(
        "finalizer removed first",
        "a UserStorage outlives its pod",
        (
            Edit(
                "plan/planner.py",
                "    if pod is None:\n        return Plan((*keep, *_leave_policy(snapshot), RemoveFinalizer()))\n",
                "    return Plan((*keep, *_leave_policy(snapshot), RemoveFinalizer()))\n",
            ),
            Edit(
                "reconcile/apply.py",
                "        if (left := snapshot.own_pod) is None:\n",
                "        if (left := snapshot.own_pod) is None or True:\n",
            ),
        ),
    ),
    Mutant(
        "children before the finalizer",
        "a deletion waits for the pod",
        (
            Edit("plan/planner.py", "        *_finalizer(snapshot),\n        *_prune", "        *_prune"),
            Edit(
                "plan/planner.py",
                "        *_resize_claim(snapshot, desired),\n",
                "        *_resize_claim(snapshot, desired),\n        *_finalizer(snapshot),\n",
            ),
        ),
    ),
    Mutant(
        "deletion believed from the cache",
        "no child is created for a UserStorage that is gone",
        (
            Edit(
                "reconcile/apply.py",
                "                if not verified and (",
                "                if False and not verified and (",
            ),
        ),
    ),
    Mutant(
        "policy after the pod",
        "no pod without its NetworkPolicy",
        (
            Edit(
                "plan/planner.py",
                "        *_ensure_policy(snapshot, desired),\n",
                "        *pod_plan.steps,\n        *_ensure_policy(snapshot, desired),\n",
            ),
            Edit(
                "plan/planner.py",
                "        *_ensure_claim(snapshot, desired),\n        *pod_plan.steps,\n",
                "        *_ensure_claim(snapshot, desired),\n",
            ),
        ),
    ),
    Mutant(
        "policy without finalizer",
        "the NetworkPolicy outlives its pod",
        (
            Edit(
                "plan/builders.py",
                '    metadata = child.metadata(storage) | {"finalizers": [names.FINALIZER]}',
                "    metadata = child.metadata(storage)",
            ),
        ),
    ),
    Mutant(
        "claim ended with the rollout",
        "the operator deletes no claim",
        (
            Edit("plan/pod.py", "import Create, DeletePod,", "import Create, Delete, DeletePod,"),
            Edit(
                "plan/pod.py",
                "        return Plan((replacement,))\n",
                "        claim = snapshot.children.pvc\n"
                '        ended = (Delete(Kind.PVC, claim["metadata"]["uid"]),) if claim is not None else ()\n'
                "        return Plan((*ended, replacement))\n",
            ),
        ),
    ),
    Mutant(
        "claim owned whatever reclaimPolicy says",
        "a claim to be retained outlives its UserStorage",
        (
            Edit(
                "plan/planner.py",
                " or storage.storage.reclaim_policy is not ReclaimPolicy.DELETE:\n        return None\n    if controller_uid",
                ":\n        return None\n    if controller_uid",
            ),
            Edit(
                "reconcile/finalizers.py",
                "        if UserStorage.parse(live).storage.reclaim_policy is not ReclaimPolicy.DELETE or live",
                "        if live",
            ),
            Edit(
                "reconcile/finalizers.py",
                "        patch = [*([test] if collected else []), *",
                "        patch = [*([test] if False else []), *",
            ),
        ),
    ),
    Mutant(
        "last pod on a claim ended",
        "the last pod on a claim that is being deleted stays",
        (
            Edit(
                "plan/pod.py",
                " is not None and kept_as_last(snapshot) is None:\n        return Plan((replacement,))",
                " is not None:\n        return Plan((replacement,))",
            ),
            Edit("reconcile/apply.py", "        if step.only_if_claim_stays:\n", "        if False:\n"),
        ),
    ),
    Mutant(
        "sweep off",
        "what no watch has shown is found by the sweep",
        (
            Edit(
                "informers/sweep.py",
                "        failed = await self._relist(self._lists)\n",
                "        failed: Sequence[_List] = []\n",
            ),
        ),
    ),
    Mutant(
        "failures not retried",
        "what fails is tried again",
        (Edit("reconcile/reconciler.py", "        retry=failure.retries,\n", "        retry=False,\n"),),
    ),
    Mutant(
        "old events believed",
        "a late event does not undo what is known",
        (
            Edit(
                "informers/object_cache.py",
                "        if self.has(obj):\n            return\n        kept",
                "        kept",
            ),
        ),
        (MODEL, "tests/unit/test_object_cache.py"),
    ),
    Mutant(
        "Redis trusted",
        "a value in Redis that is not sealed for its key is not used",
        (
            Edit(
                "redis_cache/codec.py",
                "        if not hmac.compare_digest(seal, self._mac(key, version, body)):\n",
                "        if False:\n",
            ),
        ),
        ("tests/unit/test_redis_codec.py",),
    ),
    Mutant(
        "policy that no watch shows is forgotten",
        "a deletion ends",
        (
            Edit(
                "informers/caches.py",
                "        if policy is not None and (is_held(policy) or is_unwatched(policy)):\n",
                "        if policy is not None and is_held(policy):\n",
            ),
        ),
        (HISTORIES,),
    ),
)
