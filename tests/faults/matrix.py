"""The fault matrix as data: each fault that is tried, what must hold, and which tests show it.

A test that exists for another reason is referred to, not written twice. `run.py` runs the cells; tests/unit/test_fault_matrix.py
checks that every id has a cell and that every test exists.
"""

from dataclasses import dataclass

IDS = tuple(f"F{number:02}" for number in range(1, 65))

CREATE, UPDATE, DELETE, BURST = "create", "update", "delete", "burst of 50"
ALL = "create, update, delete, delete during create, re-create, class change, burst of 50"
CRASHES = "faults/test_crashes.py::test_crash_at_any_write_changes_nothing_in_the_end"
LONGER = "faults/nightly/test_all_crashes.py"


@dataclass(frozen=True)
class Cell:
    """A fault and the workload in which it occurs."""

    id: str
    priority: int
    """0: in `make test`, if its tests are in tests/faults; 1: in `make test-faults`; 2: neither."""
    fault: str
    workload: str
    oracles: str
    """The invariants that its tests hold against it; docs/reliability.md has the list."""
    tests: tuple[str, ...] = ()
    """Test functions, as `folder/file.py::function` below tests/."""
    not_shown: str = ""
    """What of the cell no test shows, and why."""


CELLS = (
    # Crashes
    Cell("F01", 0, "SIGKILL before each write", "create, delete", "I1 I2 I3 I4 I6 I7 I14", (CRASHES,)),
    Cell("F02", 0, "SIGKILL after each write, its answer lost", "create, delete", "I1 I2 I3 I4 I6 I7 I14", (CRASHES,)),
    Cell(
        "F01",
        1,
        "SIGKILL before and after each write",
        ALL,
        "I1 I2 I3 I4 I6 I7 I14",
        (
            f"{LONGER}::test_crash_at_any_write_of_a_longer_workload_changes_nothing_in_the_end",
            f"{LONGER}::test_crash_at_any_write_of_a_burst_changes_nothing_in_the_end",
            f"{LONGER}::test_killed_process_is_continued_by_the_next",
            "component/test_interrupted.py::test_deletion_with_its_claim_killed_at_any_write_is_completed_by_the_next_process",
            "component/test_interrupted.py::test_foreground_deletion_killed_at_any_write_is_completed_by_the_next_process",
            "component/test_interrupted.py::test_adoption_killed_at_any_write_is_completed_by_the_next_process",
        ),
    ),
    Cell(
        "F03",
        1,
        "a second SIGKILL at the first write of the next process",
        "create, delete",
        "I1 I2 I3 I4 I6 I14",
        (f"{LONGER}::test_second_crash_at_the_first_write_changes_nothing_in_the_end",),
    ),
    Cell(
        "F04",
        0,
        "SIGTERM of the leader, and during a deletion",
        f"{BURST}, delete",
        "I6 I9",
        (
            "cluster/test_election.py::test_terminated_leader_hands_over",
            "faults/test_crashes.py::test_terminated_process_leaves_its_deletion_to_the_next",
        ),
    ),
    Cell(
        "F05",
        1,
        "an exception in a reconcile",
        CREATE,
        "I1 I12",
        (
            "component/test_api_errors.py::test_internal_error_is_reported_and_affects_no_other_user_storage",
            "unit/test_worker.py::test_crashed_reconcile_is_an_internal_error_and_requeued",
        ),
        "an OOM kill, which is the SIGKILL of F01",
    ),
    Cell(
        "F06",
        0,
        "the process is suspended beyond its lease",
        BURST,
        "I9",
        ("cluster/test_election.py::test_suspended_leader_begins_no_write_after_it_resumes",),
        "the one request that was being sent at that moment, which no client can take back",
    ),
    # Stale and unobserved state
    Cell(
        "F07",
        0,
        "every watch is cut again and again",
        UPDATE,
        "I1 I3 I4 I7",
        ("faults/test_stale.py::test_watches_that_are_cut_every_moment_miss_nothing_and_list_nothing",),
    ),
    Cell(
        "F08",
        1,
        "a watch stays open and silent",
        CREATE,
        "I1 I3 I4 I7",
        (
            "faults/nightly/test_watches.py::test_silent_watch_is_opened_again_and_shows_what_happened",
            "component/test_gate.py::test_silent_watch_closes_the_door_after_max_age",
        ),
    ),
    Cell(
        "F09",
        0,
        "410 in a watch",
        "re-create",
        "I1",
        ("component/test_watch_gaps.py::test_user_that_vanished_in_a_gap_makes_room_for_its_successor",),
    ),
    Cell(
        "F10",
        0,
        "500 in a watch; 400, 404 and 410 to lists and watches",
        CREATE,
        "I1",
        (
            "component/test_watch_gaps.py::test_user_that_vanished_in_a_gap_makes_room_for_its_successor",
            "component/test_watch_gaps.py::test_refused_list_or_watch_does_not_end_the_operator",
            "component/test_health.py::test_refused_watch_of_our_kinds_degrades_readiness_and_counts_its_silence",
        ),
    ),
    Cell(
        "F11",
        0,
        "events of pods, of UserStorages or of all children are swallowed",
        "create, update, delete",
        "I1 I3 I4 I6 I7",
        ("faults/test_stale.py::test_sweep_shows_what_a_watch_does_not",),
    ),
    Cell(
        "F12",
        1,
        "events come twice, and older ones after newer ones",
        "create, update, delete",
        "I1 I3 I4 I5 I7",
        ("faults/nightly/test_watches.py::test_repeated_and_late_events_cause_no_further_write",),
    ),
    Cell(
        "F13",
        0,
        "lists are answered from the past, and watches with nothing",
        "create, delete",
        "I1 I3 I4 I7",
        (
            "faults/test_stale.py::test_list_from_before_the_creation_deletes_nothing",
            "faults/test_stale.py::test_list_from_before_the_deletion_creates_nothing",
        ),
    ),
    Cell(
        "F14",
        0,
        "a UserStorage is created again while its children terminate",
        "re-create",
        "I1 I4",
        (
            "component/test_repair.py::test_child_of_deleted_user_storage_is_replaced_after_its_garbage_collection",
            "component/test_deletion.py::test_next_object_of_the_user_waits_for_the_policy_of_the_former",
            "component/test_lifecycle.py::test_next_object_of_user_reuses_claim",
        ),
    ),
    Cell(
        "F15",
        0,
        "a UserStorage is deleted at each write of its creation",
        "delete during create",
        "I4 I6",
        (
            "component/test_deletion.py::test_deletion_after_any_write_of_creation_leaves_no_pod",
            "component/test_deletion.py::test_deletion_during_creation_leaves_no_pod",
        ),
    ),
    Cell(
        "F16",
        1,
        "a hundred changes in a row",
        UPDATE,
        "I1 I3 I4 I7",
        ("faults/nightly/test_watches.py::test_hundred_changes_in_a_row_end_with_the_last",),
    ),
    # Errors of the API server
    Cell(
        "F17",
        0,
        "500 and 503 to every request",
        "create, update",
        "I1 I3 I4",
        (
            "faults/test_api_faults.py::test_user_that_is_created_in_an_outage_is_served_after_it",
            "component/test_api_errors.py::test_unavailable_server_is_retried_with_backoff",
        ),
    ),
    Cell(
        "F18",
        0,
        "409 to status patches, one and three in a row",
        CREATE,
        "I1 I7",
        ("faults/test_api_faults.py::test_conflict_of_the_status_is_retried",),
        "twenty in a row, which take a quarter of an hour",
    ),
    Cell(
        "F19",
        0,
        "422 to every status patch of one UserStorage",
        CREATE,
        "I7 I12 I13",
        ("faults/test_api_faults.py::test_status_that_is_always_refused_costs_few_writes_and_no_other_user",),
    ),
    Cell(
        "F20",
        0,
        "429 with Retry-After to every write for one user",
        CREATE,
        "I7 I12 I13",
        (
            "faults/test_api_faults.py::test_retry_after_is_respected_and_other_users_are_served",
            "unit/test_retry_after.py::test_next_retry_is_not_before_the_pause_that_was_asked_for",
        ),
    ),
    Cell(
        "F21",
        1,
        "the right to create pods is revoked and granted again",
        CREATE,
        "I8 I13",
        ("faults/nightly/test_api_faults.py::test_right_that_is_missing_is_reported_until_it_is_back",),
    ),
    Cell(
        "F22",
        1,
        "401 to every request for a while; an expired token",
        CREATE,
        "I1 I10",
        (
            "faults/nightly/test_api_faults.py::test_rejected_credentials_are_renewed_by_a_running_operator",
            "component/test_login.py::test_expired_credential_is_renewed",
        ),
    ),
    Cell(
        "F23",
        0,
        "a request, or its answer, never arrives",
        CREATE,
        "I1 I4 I12",
        (
            "faults/test_api_faults.py::test_request_that_hangs_ends_and_is_made_again",
            "faults/test_api_faults.py::test_write_with_a_lost_answer_is_executed_once",
        ),
    ),
    Cell(
        "F24",
        1,
        "every request takes two seconds longer",
        "20 creations",
        "I1 I5",
        ("faults/nightly/test_api_faults.py::test_slow_api_server_costs_time_and_no_requests",),
    ),
    Cell(
        "F25",
        1,
        "a child vanishes between the look and the write",
        UPDATE,
        "I1 I3 I4",
        ("faults/nightly/test_api_faults.py::test_child_that_vanishes_under_a_write_is_created_again",),
    ),
    Cell(
        "F26",
        1,
        "annotations and objects that are too large",
        CREATE,
        "I13",
        (
            "component/test_crd_admission.py::test_annotations_above_256_kib_are_refused",
            "component/test_bad_inputs.py::test_bad_input_has_expected_outcome_and_affects_no_other_user",
        ),
    ),
    # Control plane
    Cell(
        "F27",
        0,
        "etcd is killed; etcd stands still for 30 s",
        "create, update, delete",
        "I1 I3 I4 I6",
        (
            "faults/test_control_plane.py::test_users_are_served_after_a_program_was_killed",
            "faults/test_control_plane.py::test_users_are_served_after_etcd_stood_still",
        ),
        "120 s, and with a lease: a leader without an API server exits (F34)",
    ),
    Cell(
        "F28",
        0,
        "the API server is killed, alone and with etcd",
        "create, update, delete",
        "I1 I3 I4 I6",
        ("faults/test_control_plane.py::test_users_are_served_after_a_program_was_killed",),
    ),
    Cell(
        "F29",
        1,
        "etcd is compacted while the watches are cut",
        "create, update",
        "I1 I3 I4",
        ("faults/nightly/test_control_plane.py::test_what_was_compacted_while_the_watches_were_cut_is_listed",),
    ),
    Cell(
        "F30",
        1,
        "the controller manager stands still during a foreground deletion",
        DELETE,
        "I4 I6 I8",
        ("faults/nightly/test_control_plane.py::test_deletion_waits_for_the_garbage_collector_and_says_so",),
    ),
    Cell(
        "F31",
        1,
        "the CRDs are deleted and created again",
        "re-create",
        "I3 I4",
        ("faults/nightly/test_control_plane.py::test_claims_survive_the_deletion_of_the_crds",),
    ),
    Cell(
        "F32",
        0,
        "a quota, a LimitRange, a webhook or an admission policy refuses the pod",
        CREATE,
        "I8 I13",
        (
            "component/test_not_ready_reasons.py::test_exceeded_quota_is_reported",
            "component/test_api_errors.py::test_pod_refusal_quotes_api_server",
            "component/test_api_errors.py::test_failing_webhook_is_named",
        ),
    ),
    # Replicas
    Cell(
        "F33",
        0,
        "SIGKILL of the leader",
        BURST,
        "I9",
        (
            "cluster/test_election.py::test_killed_leader_is_replaced_when_its_lease_expires",
            "cluster/test_election.py::test_replica_that_takes_over_lists_nothing_before_it_serves_a_new_user",
            "cluster/test_election.py::test_standby_with_stalled_watches_takes_over_without_harm",
        ),
    ),
    Cell(
        "F34",
        0,
        "the leader alone is cut off",
        BURST,
        "I9",
        ("cluster/test_election.py::test_leader_without_network_exits_before_its_lease_expires",),
    ),
    Cell(
        "F35",
        1,
        "a clock that is ten minutes ahead",
        "create, delete",
        "I8 I9",
        (
            "component/test_watch_gaps.py::test_clock_that_is_ahead_times_nothing_out",
            "unit/test_elector.py::test_at_most_one_replica_may_write_at_any_time",
        ),
        "the lease with wrong clocks, by simulation only: the lease is timed by each process's own monotonic clock",
    ),
    Cell(
        "F36",
        1,
        "the Lease is deleted, emptied or given an invalid holder",
        "none",
        "I9",
        (
            "cluster/test_election.py::test_leader_recreates_deleted_lease",
            "unit/test_elector.py::test_leader_recovers_a_lease_that_was_deleted_or_emptied_by_hand",
            "unit/test_elector.py::test_invalid_lease_holder_ends_the_leadership_and_expires",
        ),
    ),
    Cell(
        "F37",
        1,
        "replicas are replaced: one, and all three at once, twenty times",
        BURST,
        "I9",
        (
            "cluster/test_election.py::test_terminated_leader_hands_over",
            "faults/nightly/test_replicas.py::test_replicas_that_are_restarted_at_once_write_one_after_the_other_and_nothing_twice",
        ),
        "a rolling restart of a Deployment, which is in make test-deploy",
    ),
    # The file browser
    Cell(
        "F38",
        0,
        "the pod is deleted, has failed or has succeeded",
        "pod lost",
        "I3 I4 I7",
        (
            "component/test_repair.py::test_deleted_pod_is_recreated",
            "component/test_repair.py::test_finished_pod_is_recreated_with_backoff_and_never_twice",
            "component/test_lost_claim.py::test_drain_of_the_node_ends_the_pod_and_the_loss_is_reported",
        ),
    ),
    Cell(
        "F39",
        0,
        "the image cannot be pulled; the container crashes or is killed for its memory",
        CREATE,
        "I8 I13",
        ("component/test_not_ready_reasons.py::test_failing_start_is_reported",),
    ),
    Cell(
        "F40",
        0,
        "the pod cannot be scheduled, its claim not be bound, its StorageClass is missing",
        CREATE,
        "I8 I13",
        (
            "component/test_not_ready_reasons.py::test_unschedulable_pod_is_reported",
            "component/test_not_ready_reasons.py::test_pending_claim_is_reported",
            "component/test_not_ready_reasons.py::test_start_timeout_is_reported",
            "component/test_storage.py::test_missing_storage_class_is_reported_until_created",
            "component/test_storage.py::test_claim_waiting_for_first_consumer_is_reported",
        ),
    ),
    Cell(
        "F41",
        1,
        "the node is lost: its pod does not end",
        "pod lost",
        "I4 I8",
        (
            "component/test_deletion.py::test_stuck_pod_of_existing_user_is_reported",
            "component/test_volume_affinity.py::test_no_pod_while_volume_is_attached_to_several_nodes",
        ),
        "a node whose lease ends: a finalizer on the pod stands for it",
    ),
    Cell(
        "F42",
        0,
        "a user changes labels, specs and owners of children, or deletes them",
        "drift",
        "I1 I3",
        (
            "component/test_repair.py::test_manually_edited_child_is_repaired",
            "component/test_repair.py::test_deleted_child_is_recreated",
            "component/test_repair.py::test_removed_owner_is_restored",
            "component/test_child_labels.py::test_lost_label_is_restored_and_ready_stays",
        ),
    ),
    Cell(
        "F43",
        1,
        "finalizers: ours is removed, foreign ones stay",
        DELETE,
        "I6 I7",
        (
            "component/test_lifecycle.py::test_removed_finalizer_is_restored",
            "component/test_lifecycle.py::test_foreign_finalizer_is_reported_and_waited_for",
            "component/test_deletion.py::test_foreign_pod_finalizer_is_reported_and_pod_not_forced",
        ),
    ),
    Cell(
        "F44",
        0,
        "the namespace is deleted with twenty users",
        "delete during create",
        "I6",
        ("component/test_deletion.py::test_namespace_with_twenty_users_is_deleted_during_creation",),
    ),
    Cell(
        "F45",
        1,
        "the file browser runs, and its volume cannot be read",
        "none",
        "I8",
        (
            "e2e/test_readiness.py::test_unreadable_volume_is_not_ready_until_repaired",
            "e2e/test_real_use.py::test_stale_mount_is_replaced_with_its_pod",
        ),
        "a full volume and a page that fails behind a healthy probe",
    ),
    # Redis
    Cell(
        "F46",
        0,
        "Redis is absent, killed, stopped or slow",
        ALL,
        "I5 I14",
        ("cluster/test_redis_proof.py::test_cluster_ends_in_the_same_state_under_every_condition_of_redis",),
        "make test-redis runs it: half an hour",
    ),
    Cell(
        "F47",
        0,
        "Redis forgets, is full, read-only or refuses the login",
        ALL,
        "I5 I14",
        ("cluster/test_redis_proof.py::test_cluster_ends_in_the_same_state_under_every_condition_of_redis",),
        "as F46",
    ),
    Cell(
        "F48",
        0,
        "Redis has garbage, or the values of another",
        "none",
        "I2",
        ("cluster/test_redis_poisoned.py::test_poisoned_values_are_counted_and_neither_served_nor_acted_on",),
    ),
    Cell(
        "F49",
        2,
        "a failover to a replica that lacks the last writes",
        "none",
        "I14",
        ("component/test_redis_mirror.py::test_mirror_refills_after_redis_lost_the_last_writes",),
    ),
    # Upgrades and history
    Cell(
        "F50",
        0,
        "objects of earlier versions",
        "upgrade",
        "I1 I4",
        (
            "cluster/test_upgrade.py::test_upgrade_restarts_no_pod",
            "cluster/test_upgrade.py::test_pods_are_never_without_their_policy_while_they_get_a_new_label",
        ),
    ),
    Cell(
        "F51",
        1,
        "a downgrade and an upgrade",
        "upgrade",
        "I3 I4",
        ("cluster/test_upgrade.py::test_downgrade_and_upgrade_restart_no_pod",),
    ),
    Cell(
        "F52",
        0,
        "a restored backup, without and with children",
        CREATE,
        "I1",
        (
            "cluster/test_upgrade.py::test_restored_backup_reaches_the_same_phases",
            "component/test_repair.py::test_children_restored_before_their_user_are_taken_over",
        ),
    ),
    Cell(
        "F53",
        1,
        "the operator is uninstalled before its objects",
        DELETE,
        "I3 I6",
        (
            "component/test_uninstall.py::test_objects_can_be_deleted_after_their_finalizers_are_released",
            "cluster/test_uninstall.py::test_documented_uninstall_removes_everything_but_claims",
        ),
    ),
    Cell(
        "F54",
        2,
        "two hours of churn with random faults",
        "churn",
        "I1 to I12",
        (),
        "make soak runs it for hours",
    ),
    Cell(
        "F55",
        1,
        "many objects at a cold start",
        "restart",
        "I1 I7",
        ("cluster/test_many.py::test_many_users_become_ready_and_writes_stop_also_after_kills",),
        "ten thousand: make bench-scale measures them",
    ),
    Cell(
        "F56",
        0,
        "foreground and orphan propagation",
        DELETE,
        "I3 I6 and no pod without its policy",
        (
            "component/test_deletion.py::test_network_policy_outlives_pod_in_every_propagation",
            "component/test_deletion.py::test_foreground_deletion_while_the_operator_is_down_keeps_policy_and_claim",
            "component/test_deletion.py::test_orphaning_deletion_leaves_the_pod_alone",
            "component/test_repair.py::test_orphaned_children_are_taken_back",
        ),
    ),
    Cell(
        "F57",
        0,
        "the claim is deleted under its pod",
        "class change, update, suspension, drain",
        "I3",
        (
            "component/test_lost_claim.py::test_rollout_does_not_end_the_pod_that_keeps_a_deleted_claim",
            "component/test_lost_claim.py::test_nothing_replaces_the_pod_that_keeps_a_deleted_claim",
            "component/test_lost_claim.py::test_suspension_ends_the_pod_and_status_says_what_follows",
            "component/test_lost_claim.py::test_drain_of_the_node_ends_the_pod_and_the_loss_is_reported",
        ),
    ),
    Cell(
        "F58",
        0,
        "another client deletes or changes a child each time",
        "drift",
        "I7 I8",
        (
            "component/test_repair.py::test_contested_child_is_repaired_after_growing_pauses",
            "component/test_repair.py::test_contested_claim_is_repaired_after_growing_pauses",
            "component/test_repair.py::test_contested_finalizer_is_added_after_growing_pauses",
        ),
    ),
    Cell(
        "F59",
        1,
        "one tenant's crowd on one claim, one user id, one full class",
        CREATE,
        "I12",
        ("component/test_neighbours.py::test_user_of_another_tenant_is_served_before_the_backlog_of_a_crowd",),
        "the seconds, and a thousand foreign objects of 250 kB under our label: make bench-crowds measures them",
    ),
    Cell(
        "F60",
        0,
        "half-open requests with large headers; invented tokens",
        "none",
        "I10",
        (
            "unit/test_connections.py::test_half_open_requests_with_large_headers_are_closed",
            "unit/test_connections.py::test_probes_and_metrics_are_answered_while_strangers_hold_all_connections",
        ),
    ),
    Cell(
        "F61",
        0,
        "the default class is deleted or moved",
        "class change",
        "I8",
        (
            "component/test_classes.py::test_users_of_missing_default_class_keep_everything",
            "component/test_classes.py::test_default_class_moved_in_two_steps_keeps_access_of_waiting_users",
        ),
    ),
    Cell(
        "F62",
        1,
        "a backup tool restores children before their owners",
        CREATE,
        "I1 I3",
        ("component/test_repair.py::test_children_restored_before_their_user_are_taken_over",),
    ),
    Cell(
        "F63",
        1,
        "etcd is restored to an earlier revision",
        "create, delete",
        "I1 I14",
        ("cluster/test_etcd_restore.py::test_operator_ends_as_a_restarted_one",),
    ),
    Cell(
        "F64",
        1,
        "a mass resume in a namespace with many foreign pods",
        "resume",
        "I7",
        ("unit/test_mount_inspector.py::test_a_mass_resume_in_a_crowded_namespace_costs_few_lists_and_holds_few_pods",),
        "a resume, a drain and a rollout of 300 on a cluster: make bench-crowds measures them",
    ),
)
