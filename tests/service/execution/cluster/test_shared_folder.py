"""A folder that several machines share: the same bytes, and locks that all of them see."""

from pathlib import Path

from upres.service.execution.cluster.shared_folder import Mark, Marked, is_held, problem


def test_the_servers_folder_is_known_by_its_mark_and_the_lock_of_that(tmp_path):
    marked = Marked(tmp_path / "jobs")
    path = Path(marked.mark.path)
    assert problem(marked.mark) is None
    assert "is another folder" in problem(Mark(marked.mark.path, "the mark of another server"))
    lock = path.with_name(f"{path.name}.lock")
    lock.rename(tmp_path / "kept")  # as on a machine with local locks
    assert "locks that other machines do not see" in problem(marked.mark)
    (tmp_path / "kept").rename(lock)
    marked.remove()
    assert "is not the server's" in problem(marked.mark)
    assert not list((tmp_path / "jobs").iterdir())


def test_marks_of_servers_that_were_killed_are_removed_and_those_of_others_are_not(tmp_path):
    other = Marked(tmp_path)
    (tmp_path / ".server-0").write_text("x")
    (tmp_path / ".server-0.lock").touch()
    marked = Marked(tmp_path)
    assert not (tmp_path / ".server-0").exists()
    assert problem(other.mark) is None and problem(marked.mark) is None
    other.remove()
    marked.remove()


def test_a_server_runs_as_long_as_it_holds_the_lock_of_its_mark(tmp_path):
    marked = Marked(tmp_path)
    assert is_held(marked.mark)
    marked._lock.release()  # as the kernel does when the server is killed
    assert not is_held(marked.mark)
    assert is_held(Mark(str(tmp_path / "not mounted" / ".server-0"), ""))
