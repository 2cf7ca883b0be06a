"""How full volumes are: whom the operator asks, whom it believes, and how seldom it writes that down."""

import asyncio
from dataclasses import replace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.builders import NOW, desired_of, ready_pod, settled_world, storage_object
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
    verdict = Outcome(replace(settled_world(raw), volume=measured), desired_of(raw), Plan(), None, NOW)
    return report(verdict, previous)


def test_the_status_tells_how_full_the_volume_is() -> None:
    first = status(MeasuredVolume(use(25)), {})
    assert (first["storage"]["used"], first["storage"]["usedPercent"]) == ("256Mi", 25)


def test_root_s_own_reserve_is_neither_used_nor_to_be_had() -> None:
    assert VolumeUse(used=90, available=0).ratio == 1


@given(st.lists(st.floats(min_value=0, max_value=100), min_size=1, max_size=30))
def test_what_is_told_is_true_to_a_percent_and_changes_only_by_as_much(percents: list[float]) -> None:
    known: Unstructured = {}
    for percent in percents:
        new = volume_status(known | {"claimName": CLAIM}, CLAIM, use(percent))
        assert abs(new["usedPercent"] - percent) <= 1 + 1e-6
        assert 0 <= new["usedPercent"] <= 100
        if known and new != known:
            assert abs(percent - known["usedPercent"]) >= 1 - 1e-6
        known = new


@given(st.lists(st.floats(min_value=36.01, max_value=37.99), max_size=30))
def test_a_user_at_work_causes_no_write_before_a_percent_is_full(percents: list[float]) -> None:
    before = status(MeasuredVolume(use(37.5)), {})
    for percent in percents:
        assert status_patch(status(MeasuredVolume(use(percent)), before), before) == {}


def test_what_is_not_known_at_the_moment_is_told_as_before() -> None:
    before = status(MeasuredVolume(use(37.5)), {})
    assert status_patch(status(MeasuredVolume(None), before), before) == {}


def test_of_another_claim_nothing_is_known() -> None:
    before = status(MeasuredVolume(use(37.5)), {})
    before["storage"]["claimName"] = "another"
    assert "usedPercent" not in status(MeasuredVolume(None), before)["storage"]


def test_where_nobody_asks_any_more_nothing_is_told() -> None:
    before = status(MeasuredVolume(use(37.5)), {})
    patch = status_patch(status(None, before), before)
    assert (patch["storage"]["used"], patch["storage"]["usedPercent"]) == (None, None)


def test_what_is_old_is_forgotten_so_that_no_lost_node_keeps_an_alarm_up() -> None:
    clock = FakeClock()
    book = VolumeStatsCache(clock)
    book.record("users", "full", use(95))
    clock.now += 200
    book.record("users", "empty", use(1))
    book.summary()
    assert book.fullness == UsageSummary(known=2, nearly_full=1, fullest=use(95).ratio)
    clock.now += 200
    assert book.of("users", "full") is None
    assert book.of("users", "empty") == use(1)
    book.summary()
    assert book.fullness == UsageSummary(known=1, nearly_full=0, fullest=use(1).ratio)
    clock.now += 200
    book.summary()
    assert book.fullness == UsageSummary()


def summary_of(*volumes: tuple[str, str, str, Any]) -> Unstructured:
    """As a kubelet has it: uid of the pod, namespace, claim, and use; a volume that was not measured yet has none."""
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
    """Kubelets that answer what the test says; the real one is asked in tests/e2e."""

    def __init__(self, answers: dict[str, Any]) -> None:
        self.answers = answers
        self.asked: list[str] = []
        self.at_once = self.most_at_once = 0
        self.not_told = 0

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
        self.not_told += 1


class Looking:
    """One UserStorage with a pod on the node 10.0.0.1, and whatever kubelets say."""

    def __init__(self, answers: dict[str, Any], *pods: Unstructured) -> None:
        self.nodes, self.book, self.keys = Nodes(answers), VolumeStatsCache(), list[Key]()
        self.views = Caches(lambda _: None, lambda _: None)
        self.raw = storage_object()
        self.views.cache(USER_STORAGES).replace([self.raw], "200")
        self.looks = VolumeStatsCollector(self.nodes, self.views, lambda: pods, self.book, self.keys.append, self.nodes)

    def tell(self, storage: Unstructured) -> None:
        """The status as it was written."""
        newer = self.raw["metadata"] | {"resourceVersion": "300"}
        self.views.put(USER_STORAGES, self.raw | {"metadata": newer, "status": {"storage": storage}})


def pod(address: str = "10.0.0.1", uid: str = "pod-1", phase: str = "Running") -> Unstructured:
    made = ready_pod(desired_of(storage_object()).pod, uid=uid)
    return made | {"status": {"phase": phase, "hostIP": address}}


async def test_only_nodes_with_pods_of_ours_are_asked_and_not_all_at_once() -> None:
    addresses = [f"10.0.1.{n}" for n in range(30)]
    pods = [pod(address, f"pod-{address}") for address in addresses]
    looking = Looking(dict.fromkeys(addresses, summary_of()), *pods, pods[0], pod("10.9.9.9", "done", "Succeeded"))
    await looking.looks.once()
    assert sorted(looking.nodes.asked) == sorted(addresses)
    assert looking.nodes.most_at_once == 8


async def test_a_status_is_written_once_and_not_again_for_the_same() -> None:
    looking = Looking({"10.0.0.1": summary_of(("pod-1", "users", CLAIM, use(93)))}, pod())
    await looking.looks.once()
    assert looking.keys == [KEY]
    assert looking.book.fullness.nearly_full == 1
    looking.tell({"claimName": CLAIM, "used": "953Mi", "usedPercent": 93})
    await looking.looks.once()
    assert looking.keys == [KEY]
    looking.nodes.answers["10.0.0.1"] = summary_of(("pod-1", "users", CLAIM, use(95)))
    await looking.looks.once()
    assert looking.keys == [KEY, KEY]


async def test_a_volume_that_was_not_measured_yet_is_not_known() -> None:
    looking = Looking({"10.0.0.1": summary_of(("pod-1", "users", CLAIM, None))}, pod())
    await looking.looks.once()
    assert looking.keys == []
    assert looking.book.fullness == UsageSummary()


@pytest.mark.parametrize(
    "lie",
    [
        pytest.param(("pod-of-another-node", "users", CLAIM, use(99)), id="another's pod"),
        pytest.param(("pod-1", "elsewhere", CLAIM, use(99)), id="another namespace"),
    ],
)
async def test_a_kubelet_is_believed_about_its_own_pods_only(lie: tuple[str, str, str, VolumeUse]) -> None:
    looking = Looking({"10.0.0.1": summary_of(lie)}, pod())
    await looking.looks.once()
    assert looking.book.fullness == UsageSummary()
    assert looking.keys == []


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
async def test_a_node_that_does_not_tell_leaves_the_others_and_what_was_known(answer: Any) -> None:
    good = summary_of(("pod-1", "users", CLAIM, use(50)))
    looking = Looking({"10.0.0.1": good, "10.0.0.2": answer}, pod(), pod("10.0.0.2", "pod-2"))
    await looking.looks.once()
    assert looking.nodes.not_told == 1
    assert looking.book.of("users", CLAIM) == use(50)
    looking.nodes.answers["10.0.0.1"] = Unavailable(0, "gone")
    await looking.looks.once()
    assert looking.nodes.not_told == 3
    assert looking.book.of("users", CLAIM) == use(50)


async def test_a_pod_that_only_says_it_is_of_ours_is_of_no_concern() -> None:
    forged = pod()
    forged["metadata"] = forged["metadata"] | {"ownerReferences": []}
    looking = Looking({"10.0.0.1": summary_of(("pod-1", "users", CLAIM, use(93)))}, forged)
    await looking.looks.once()
    assert looking.keys == []
    assert looking.book.fullness == UsageSummary()
