"""Volume usage: which kubelets are queried, which reports count, and how rarely the status is written."""

import asyncio
from dataclasses import replace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.builders import NOW, desired_of, ready_pod, settled_snapshot, storage_object
from support.caches import put_list
from support.clock import FakeClock
from userstorage_operator.api.errors import OperatorError, Unavailable
from userstorage_operator.api.resources import USER_STORAGES
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.api.userstorage import Key
from userstorage_operator.informers.caches import Caches
from userstorage_operator.observed.volume_usage import MeasuredVolume, VolumeUse, volume_status
from userstorage_operator.plan.steps import Plan
from userstorage_operator.reconcile.volume_stats_cache import UsageSummary, VolumeStatsCache
from userstorage_operator.reconcile.volume_stats_collector import VolumeStatsCollector
from userstorage_operator.status.outcome import Outcome
from userstorage_operator.status.report import report, status_patch

MEBI = 1 << 20
CLAIM = "user-storage-alice"
KEY = Key("users", "alice")


def use(percent: float) -> VolumeUse:
    taken = round(percent * 1024 * MEBI / 100)
    return VolumeUse(taken, 1024 * MEBI - taken)


def status(measured: MeasuredVolume | None, previous: Unstructured) -> Unstructured:
    raw = storage_object()
    outcome = Outcome(replace(settled_snapshot(raw), volume=measured), desired_of(raw), Plan(), None, NOW)
    return report(outcome, previous)


def test_status_reports_volume_usage() -> None:
    first = status(MeasuredVolume(use(25)), {})
    assert (first["storage"]["used"], first["storage"]["usedPercent"]) == ("256Mi", 25)


def test_reserved_blocks_are_neither_used_nor_available() -> None:
    assert VolumeUse(used=90, available=0).ratio == 1


@given(st.lists(st.floats(min_value=0, max_value=100), min_size=1, max_size=30))
def test_reported_usage_is_accurate_to_one_percent(percents: list[float]) -> None:
    known: Unstructured = {}
    for percent in percents:
        new = volume_status(known | {"claimName": CLAIM}, CLAIM, use(percent))
        assert abs(new["usedPercent"] - percent) <= 1 + 1e-6
        assert 0 <= new["usedPercent"] <= 100
        if known and new != known:
            assert abs(percent - known["usedPercent"]) >= 1 - 1e-6
        known = new


@given(st.lists(st.floats(min_value=36.01, max_value=37.99), max_size=30))
def test_small_changes_of_volume_usage_write_no_status(percents: list[float]) -> None:
    before = status(MeasuredVolume(use(37.5)), {})
    for percent in percents:
        assert status_patch(status(MeasuredVolume(use(percent)), before), before) == {}


def test_status_keeps_previous_volume_usage_while_usage_is_unknown() -> None:
    before = status(MeasuredVolume(use(37.5)), {})
    assert status_patch(status(MeasuredVolume(None), before), before) == {}


def test_previous_volume_usage_of_another_claim_is_dropped() -> None:
    before = status(MeasuredVolume(use(37.5)), {})
    before["storage"]["claimName"] = "another"
    assert "usedPercent" not in status(MeasuredVolume(None), before)["storage"]


def test_usage_is_removed_when_stats_are_disabled() -> None:
    before = status(MeasuredVolume(use(37.5)), {})
    patch = status_patch(status(None, before), before)
    assert (patch["storage"]["used"], patch["storage"]["usedPercent"]) == (None, None)


def test_old_measurements_expire() -> None:
    clock = FakeClock()
    cache = VolumeStatsCache(clock)
    cache.record("users", "full", use(95))
    clock.now += 200
    cache.record("users", "empty", use(1))
    cache.summary()
    assert cache.fullness == UsageSummary(known=2, nearly_full=1, fullest=use(95).ratio)
    clock.now += 200
    assert cache.of("users", "full") is None
    assert cache.of("users", "empty") == use(1)
    cache.summary()
    assert cache.fullness == UsageSummary(known=1, nearly_full=0, fullest=use(1).ratio)
    clock.now += 200
    cache.summary()
    assert cache.fullness == UsageSummary()


def test_volume_of_many_users_is_counted_once() -> None:
    cache = VolumeStatsCache(FakeClock())
    for _ in range(50):  # each user's pod reports the whole volume
        cache.record("users", "homes", use(95))
    cache.summary()
    assert cache.fullness == UsageSummary(known=1, nearly_full=1, fullest=use(95).ratio)


def summary_of(*volumes: tuple[str, str, str, Any]) -> Unstructured:
    """Return a kubelet's summary of volumes given as (pod uid, namespace, claim, usage); usage None is not measured yet."""
    return {
        "node": {"nodeName": "n"},
        "pods": [{"podRef": {"name": "no-volumes", "namespace": "users", "uid": "other"}}]
        + [
            {
                "podRef": {"name": "p", "namespace": namespace, "uid": uid},
                "volume": [
                    {"name": "tmp", "usedBytes": 1, "availableBytes": 1, "capacityBytes": 2},
                    {
                        "name": "data",
                        "pvcRef": {"name": claim, "namespace": namespace},
                        **({"usedBytes": one.used, "availableBytes": one.available} if one is not None else {}),
                    },
                ],
            }
            for uid, namespace, claim, one in volumes
        ],
    }


class Nodes:
    """Kubelets with responses set by the test; tests/e2e queries a real one."""

    def __init__(self, answers: dict[str, Any]) -> None:
        self.answers = answers
        self.asked: list[str] = []
        self.at_once = self.most_at_once = 0
        self.failures = 0

    async def summary(self, address: str) -> Unstructured:
        self.asked.append(address)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(0)
        self.at_once -= 1
        answer = self.answers[address]
        if isinstance(answer, OperatorError):
            raise answer
        result: Unstructured = answer
        return result

    def volume_stats_failed(self) -> None:
        self.failures += 1


class CollectorSetup:
    """A collector for one UserStorage with the given pods, and kubelets with the given responses."""

    def __init__(self, answers: dict[str, Any], *pods: Unstructured) -> None:
        self.nodes, self.cache, self.keys = Nodes(answers), VolumeStatsCache(), list[Key]()
        self.caches = Caches(lambda _: None, lambda _: None)
        self.raw = storage_object()
        put_list(self.caches.cache(USER_STORAGES), [self.raw], "200")
        self.collector = VolumeStatsCollector(self.nodes, self.caches, lambda: pods, self.cache, self.keys.append, self.nodes)

    def store_status(self, storage: Unstructured) -> None:
        """Store the status as the reconciler would write it."""
        newer = self.raw["metadata"] | {"resourceVersion": "300"}
        self.caches.put(USER_STORAGES, self.raw | {"metadata": newer, "status": {"storage": storage}})


def pod(address: str = "10.0.0.1", uid: str = "pod-1", phase: str = "Running") -> Unstructured:
    made = ready_pod(desired_of(storage_object()).pod, uid=uid)
    return made | {"status": {"phase": phase, "hostIP": address}}


async def test_only_nodes_with_own_pods_are_queried_with_bounded_concurrency() -> None:
    addresses = [f"10.0.1.{n}" for n in range(30)]
    pods = [pod(address, f"pod-{address}") for address in addresses]
    setup = CollectorSetup(dict.fromkeys(addresses, summary_of()), *pods, pods[0], pod("10.9.9.9", "done", "Succeeded"))
    await setup.collector.once()
    assert sorted(setup.nodes.asked) == sorted(addresses)
    assert setup.nodes.most_at_once == 8


async def test_user_storage_is_not_requeued_while_its_volume_usage_is_unchanged() -> None:
    setup = CollectorSetup({"10.0.0.1": summary_of(("pod-1", "users", CLAIM, use(93)))}, pod())
    await setup.collector.once()
    assert setup.keys == [KEY]
    assert setup.cache.fullness.nearly_full == 1
    setup.store_status({"claimName": CLAIM, "used": "953Mi", "usedPercent": 93})
    await setup.collector.once()
    assert setup.keys == [KEY]
    setup.nodes.answers["10.0.0.1"] = summary_of(("pod-1", "users", CLAIM, use(95)))
    await setup.collector.once()
    assert setup.keys == [KEY, KEY]


async def test_volume_without_measurement_is_neither_counted_nor_requeued() -> None:
    setup = CollectorSetup({"10.0.0.1": summary_of(("pod-1", "users", CLAIM, None))}, pod())
    await setup.collector.once()
    assert setup.keys == []
    assert setup.cache.fullness == UsageSummary()


@pytest.mark.parametrize(
    "report_of_other_pod",
    [
        pytest.param(("pod-of-another-node", "users", CLAIM, use(99)), id="another's pod"),
        pytest.param(("pod-1", "elsewhere", CLAIM, use(99)), id="another namespace"),
    ],
)
async def test_usage_that_a_kubelet_reports_for_another_pod_is_ignored(
    report_of_other_pod: tuple[str, str, str, VolumeUse],
) -> None:
    setup = CollectorSetup({"10.0.0.1": summary_of(report_of_other_pod)}, pod())
    await setup.collector.once()
    assert setup.cache.fullness == UsageSummary()
    assert setup.keys == []


@pytest.mark.parametrize(
    "answer",
    [
        Unavailable(0, "no answer from the kubelet"),
        {},
        [],
        {"pods": None},
        {"pods": [{"volume": 7}]},
        {"pods": [{"podRef": {}, "volume": [{"pvcRef": {"x": 1}, "usedBytes": 1, "availableBytes": 1}]}]},
        summary_of(("pod-2", "users", "b", VolumeUse(-1, 2))),
        summary_of(("pod-2", "users", "b", VolumeUse(1 << 64, 2))),
        summary_of(("pod-2", "users", "b", VolumeUse(cast("Any", 1.5), 2))),
        summary_of(("pod-2", "users", "b", VolumeUse(cast("Any", "1"), 2))),
    ],
)
async def test_failing_node_does_not_affect_others_or_known_values(answer: Any) -> None:
    good = summary_of(("pod-1", "users", CLAIM, use(50)))
    setup = CollectorSetup({"10.0.0.1": good, "10.0.0.2": answer}, pod(), pod("10.0.0.2", "pod-2"))
    await setup.collector.once()
    assert setup.nodes.failures == 1
    assert setup.cache.of("users", CLAIM) == use(50)
    setup.nodes.answers["10.0.0.1"] = Unavailable(0, "gone")
    await setup.collector.once()
    assert setup.nodes.failures == 3
    assert setup.cache.of("users", CLAIM) == use(50)


async def test_usage_of_pod_without_owner_reference_is_ignored() -> None:
    forged = pod()
    forged["metadata"] = forged["metadata"] | {"ownerReferences": []}
    setup = CollectorSetup({"10.0.0.1": summary_of(("pod-1", "users", CLAIM, use(93)))}, forged)
    await setup.collector.once()
    assert setup.keys == []
    assert setup.cache.fullness == UsageSummary()
