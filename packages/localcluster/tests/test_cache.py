"""The cache of builds: one entry for each set of inputs, whole or absent."""

from pathlib import Path

import pytest

from localcluster import Profile, builds, cache


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return cache.root()


def test_same_inputs_have_the_same_digest(tmp_path: Path) -> None:
    source = tmp_path / "main.go"
    source.write_text("package main")
    assert cache.digest(["a", source]) == cache.digest([b"a", source])


def test_every_change_of_the_inputs_changes_the_digest(tmp_path: Path) -> None:
    source, renamed = tmp_path / "main.go", tmp_path / "other.go"
    source.write_text("package main")
    renamed.write_text("package main")
    lists: list[list[str | bytes | Path]] = [["a", source], ["b", source], [source, "a"], ["a", renamed], ["a"]]
    digests = [cache.digest(inputs) for inputs in lists]
    source.write_text("package other")
    digests.append(cache.digest(["a", source]))
    assert len(set(digests)) == len(digests)


def test_moving_text_between_two_inputs_changes_the_digest() -> None:
    assert cache.digest(["ab", "c"]) != cache.digest(["a", "bc"])


def test_cache_entry_is_built_once() -> None:
    built: list[Path] = []

    def build(directory: Path) -> None:
        built.append(directory)
        (directory / "program").write_text("text")

    first = cache.entry("tool", ["1"], build)
    again = cache.entry("tool", ["1"], build)
    other = cache.entry("tool", ["2"], build)
    assert (first / "program").read_text() == "text"
    assert first == again != other
    assert len(built) == 2


def test_failed_build_leaves_no_entry(own_cache: Path) -> None:
    def fail(directory: Path) -> None:
        (directory / "half").write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        cache.entry("tool", ["1"], fail)
    assert [path.name for path in own_cache.iterdir()] == ["tool.lock"]


def test_lock_can_be_taken_after_its_holder_deleted_the_file(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    with cache.locked(lock):
        lock.unlink()
        with cache.locked(lock):
            assert lock.exists()


@pytest.mark.parametrize("module", ["kube", builds.OLDEST])
def test_kubernetes_version_is_stamped_into_the_program(module: str) -> None:
    command = builds.kube_program(module).command(Path("kube"))
    version = builds.pinned_version(module, "k8s.io/kubernetes")
    stamps = command[command.index("-ldflags") + 1].split()
    assert f"k8s.io/component-base/version.gitVersion={version}" in stamps
    assert f"k8s.io/component-base/version.gitMinor={version.split('.')[1]}" in stamps


def test_oldest_control_plane_is_of_the_version_in_its_name() -> None:
    assert builds.pinned_version(builds.OLDEST, "k8s.io/kubernetes").startswith(f"v{builds.OLDEST.removeprefix('kube-')}.")
    assert f"control-plane-{builds.OLDEST.removeprefix('kube-')}" == Profile.OLDEST_CONTROL_PLANE


def test_kubernetes_libraries_are_pinned_to_the_version_of_kubernetes() -> None:
    version = builds.pinned_version("kube", "k8s.io/kubernetes")
    for library in ("k8s.io/kubectl", "k8s.io/client-go", "k8s.io/component-base"):
        assert builds.pinned_version("kube", library) == "v0" + version.removeprefix("v1")
